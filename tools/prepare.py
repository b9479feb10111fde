"""Write a data set as a few sharded TFRecord files, with Apache Beam (pip install 'tfvl[beam]').

    python tools/prepare.py --task vqa --data vqa --split train --split val --images coco --out prepared
    tfvl train --task vqa --data prepared --model dandelin/vilt-b32-mlm --out run

Beam's own options are passed on: `--runner DataflowRunner --project …`, `--runner FlinkRunner --flink_master …`, or
`--direct_num_workers 8 --direct_running_mode multi_processing` for all cores of this machine. Workers elsewhere need
tfvl (`--setup_file` or a container) and see the data set under the same path.
"""

import argparse

from tfvl.cli.console import print_report, run_script
from tfvl.files.quiet import quiet_tensorflow


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", required=True, help="vqa, gqa, nlvr2, retrieval, vcr-answer, vcr-rationale, …")
    parser.add_argument("--data", required=True, help="directory with the files as published")
    parser.add_argument("--split", required=True, action="append", help="as the files call it; several may be given")
    parser.add_argument("--images", help="folder of images")
    parser.add_argument("--regions", help="file of region features (tfvl.RegionStore)")
    parser.add_argument("--out", required=True, help="directory to write; each split goes into one below it")
    parser.add_argument("--resize-for", metavar="SRC", help="write images at the size that this model resizes them to")
    parser.add_argument("--shards", type=int, default=32, help="files for examples, and for images or regions")
    parser.add_argument("--min-answers", type=int, default=9, help="occurrences of an answer of the vocabulary")
    parser.add_argument("--strict", action="store_true", help="refuse a data set with anything that cannot be used")
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")
    options, flags = parser.parse_known_args()

    quiet_tensorflow()
    from tfvl.preprocessing.image.processor import ViltImageProcessor
    from tfvl.training.beam.prepare import prepare
    from tfvl.training.beam.steps import Settings

    source = options.resize_for
    processor = ViltImageProcessor.from_pretrained(source).to_dict() if source else None
    taken = ("task", "data", "images", "regions", "shards", "min_answers", "strict")
    for split in options.split:
        settings = Settings(split=split, processor=processor, **{name: getattr(options, name) for name in taken})
        report = prepare(settings, options.out, flags, options.overwrite)
        print_report(report, f"{options.out}/{split}")


if __name__ == "__main__":
    run_script(main)
