"""Ask an exported model about a data set, with Apache Beam's RunInference (pip install 'tfvl[beam]').

    python tools/score.py --task vqa --data vqa --split test --images coco --model models/vilt_vqa/1 --out scored
    cat scored/predictions-*.jsonl

Each line is a result in the data set's own form with the answer's score, and the row's status: "", or why there is no
answer. Beam's options are passed on, as by tools/prepare.py; workers elsewhere need tfvl, and see the data set and the
model under the same paths.
"""

import argparse

from tfvl.cli.console import print_report, run_script
from tfvl.files.quiet import quiet_tensorflow


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", required=True, help="vqa, gqa, nlvr2, retrieval, vcr-answer or vcr-rationale")
    parser.add_argument("--data", required=True, help="directory with the files as published, or as prepared")
    parser.add_argument("--split", required=True, help="as the files call it")
    parser.add_argument("--images", help="folder of images, or directory of a prepared data set")
    parser.add_argument("--regions", help="file of region features, or directory of a prepared data set")
    parser.add_argument("--model", required=True, help="directory of an exported model")
    parser.add_argument("--out", required=True, help="directory to write")
    parser.add_argument("--batch-size", type=int, default=32, help="rows that are answered at once, at most")
    parser.add_argument("--shards", type=int, default=32, help="files of predictions")
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")
    options, flags = parser.parse_known_args()

    quiet_tensorflow()
    from tfvl.training.beam.score import score
    from tfvl.training.beam.steps import Settings

    taken = ("task", "data", "split", "images", "regions", "shards")
    settings = Settings(**{name: getattr(options, name) for name in taken})
    report = score(settings, options.model, options.out, flags, options.batch_size, options.overwrite)
    print_report(report, options.out)


if __name__ == "__main__":
    run_script(main)
