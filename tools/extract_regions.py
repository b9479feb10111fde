"""Extract the regions of images with a detector on many machines, with Apache Beam (pip install 'tfvl[beam]').

    python tools/extract_regions.py photos --detector unc-nlp/frcnn-vg-finetuned --out shards
    tfvl regions shards photos.h5

On one machine `tfvl regions photos --out photos.h5 --detector …` does the same and goes on where it was interrupted.
Beam's own options are passed on: `--runner DataflowRunner --project …`, `--runner FlinkRunner --flink_master …`, or
`--direct_num_workers 8 --direct_running_mode multi_processing`. Workers elsewhere need tfvl (`--setup_file` or a
container) and see images and detector under the same paths.
"""

import argparse

from tfvl.cli.console import print_report, run_script
from tfvl.files.quiet import quiet_tensorflow


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", help="files, or folders with all images in them")
    parser.add_argument("--detector", required=True, help="hub id, directory, or shapes-detector")
    parser.add_argument("--out", required=True, help="directory to write")
    parser.add_argument("--preset", help="bottom-up: 600/1000 pixels instead of 800/1333")
    parser.add_argument("--dtype", default="float32", choices=("float32", "float16"), help="of the features")
    parser.add_argument("--shards", type=int, default=32, help="number of files")
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")
    options, flags = parser.parse_known_args()

    quiet_tensorflow()
    from tfvl.detector.config import PRESETS
    from tfvl.training.beam.extract import ExtractionSettings, extract

    if options.preset not in (None, *PRESETS):
        raise ValueError(f"preset is {options.preset!r}, expected one of {', '.join(PRESETS)}.")
    overrides = tuple(sorted(PRESETS.get(options.preset, {}).items()))
    settings = ExtractionSettings(tuple(options.images), options.detector, overrides, options.dtype, options.shards)
    report = extract(settings, options.out, flags, options.overwrite)
    print_report(report, options.out)


if __name__ == "__main__":
    run_script(main)
