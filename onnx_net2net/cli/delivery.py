"""Where a student goes, and that it gets there or is refused before it is made."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from onnx_net2net.errors import ResourceError, UsageError
from onnx_net2net.growth.verbs import VERBS
from .exit_codes import on_path

GROWN = ".grown"  # the suffix where several verbs had a part


def form(teacher: Any, model: str, suffix: str, options: dict[str, Any]) -> Any:
    """How to write, None if nothing is to be written; fails before the student is checked."""
    if options["external_data"] and options["link_teacher"]:
        raise UsageError("--external-data and --link-teacher are two forms", "give one of them")
    output = options["output"]
    target = default_output(model, suffix) if output is None else Path(output)
    if options["save_mapping"] is not None:
        _mapping_fits(teacher, Path(options["save_mapping"]), target, options["force"])
    if options["plan_only"]:
        return None
    from onnx_net2net.files.output_form import ExternalData, LinkedToTeacher, OutputForm, SingleFile
    from onnx_net2net.files.writer import AlreadyThereError

    made: OutputForm = SingleFile(target, options["force"])
    if options["external_data"]:
        made = ExternalData(target, options["force"])
    if options["link_teacher"]:
        made = LinkedToTeacher(target, teacher, options["force"])
    try:
        made.check(teacher)
    except OSError as why:
        more = " or give --force" if isinstance(why, AlreadyThereError) else ""
        raise on_path(why, f"choose another with -o{more}") from None
    if not os.access(target.parent, os.W_OK):
        raise ResourceError(f"'{target.parent}': not writable", "choose another folder")
    return made


def _mapping_fits(teacher: Any, path: Path, student: Path, force: bool) -> None:
    """Refuse a place for the mapping before the student is written, not after."""
    from onnx_net2net.files.writer import check

    if os.path.abspath(path) == os.path.abspath(student):
        raise UsageError("-o and --save-mapping name one file", "give them different names")
    if not force:
        free(str(path))
    try:
        check(path, teacher.files, force=True)
    except OSError as why:
        raise on_path(why, "choose another with --save-mapping") from None
    if not os.access(path.parent, os.W_OK):
        raise ResourceError(f"'{path.parent}': not writable", "choose another folder")


def deliver(made: Any, into: Any, verb: str, options: dict[str, Any]) -> None:
    """Verify and write, unless only planned, and say what changed."""
    from onnx_net2net.report.progress import copying, waiting
    from onnx_net2net.report.text import grown, show, warn

    verdict = target = None
    if into is not None:
        with waiting("verifying the student", made.source.size):
            verdict = made.check(options["verify"], options["sizes"], options["require"])
        with copying("writing the student", made.source.size) as progress:
            target = made.pieces.write(into, progress=progress)
        if options["save_mapping"]:
            made.save_mapping(options["save_mapping"], force=options["force"])
    for warning in dict.fromkeys(made.warnings):
        warn(warning)
    show(grown(made, verb, target, verdict, options["as_json"]), options["as_json"])


def default_output(model: str, suffix: str) -> Path:
    """Beside the model, our earlier suffix replaced.

    >>> default_output("a/net.widened.onnx", ".deepened").name
    'net.deepened.onnx'
    """
    path = Path(model)
    ours = "|".join({re.escape(v.suffix) for v in VERBS.values()} | {re.escape(GROWN)})
    stem = re.sub(rf"({ours})?(\.onnx)?$", "", path.name, count=1)
    return path.with_name(f"{stem}{suffix}.onnx")


def free(path: str | None) -> None:
    """Refuse a path where something is already, or where nothing can be."""
    if path is None:
        return
    if os.path.lexists(path):
        raise UsageError(f"'{path}': is already there", "choose another name")
    if not Path(path).parent.is_dir():
        raise UsageError(f"'{Path(path).parent}': no such folder", "create it first")
