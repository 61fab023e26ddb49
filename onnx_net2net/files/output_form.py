"""The forms in which a model leaves the program: each is an object that can check and write.

`Plan.apply` takes one in the place of a path. A form of your own is any object with these two
methods.

>>> import onnx
>>> from onnx_net2net.files.reader import read
>>> relu = onnx.helper.make_node("Relu", ["x"], ["y"])
>>> source = read(onnx.helper.make_model(onnx.helper.make_graph([relu], "g", [], [])))
>>> InMemory().write(source).graph.node[0].op_type
'Relu'
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from onnx import ModelProto

from onnx_net2net.errors import ModelError, UsageError
from . import external_data, teacher_link, writer
from .protobuf import LIMIT
from .rope import Rope
from .source import Source
from .writer import Progress


class Stored(Protocol):
    """A model as bytes, and the folder of its external data: a `Source`, or a patched one."""

    rope: Rope
    directory: Path | None


class OutputForm(Protocol):
    """A form, and where it is put."""

    def check(self, teacher: Source) -> None:
        """Raise what would keep a student of `teacher` from being written; before the work."""

    def write(self, model: Stored, progress: Progress | None = None) -> Any:
        """Write the model, whole or not at all; what the caller gets, such as the path.

        Args:
            model: what to write; it stays as it is.
            progress: is told how many bytes were copied.
        """


@dataclass(frozen=True)
class FileForm:
    """What forms of one file share.

    Attributes:
        path: the file to write.
        force: replace a file that is there.
    """

    path: str | os.PathLike[str]
    force: bool = False

    def check(self, teacher: Source) -> None:
        """Raise OSError if the file cannot be: see `writer.check`; the teacher's own stay."""
        writer.check(Path(self.path), teacher.files, force=self.force)


class SingleFile(FileForm):
    """Everything in one file; over 2 GiB, which none holds, with external data."""

    def write(self, model: Stored, progress: Progress | None = None) -> Path:
        """Write it; raises OSError, and ModelError where external data is missing."""
        whole = self_contained(model)
        if whole.size > LIMIT:
            return ExternalData(self.path, self.force).write(model, progress)
        writer.write(whole, Path(self.path), progress)
        return Path(self.path)


class ExternalData(FileForm):
    """Payloads in one file beside the model."""

    def write(self, model: Stored, progress: Progress | None = None) -> Path:
        """Write it; raises OSError, and ModelError where external data is missing."""
        alone = teacher_link.stamped(model.rope, None)
        writer.write_external(
            lambda location: external_data.externalised(alone, model.directory, location),
            Path(self.path),
            progress,
        )
        return Path(self.path)


@dataclass(frozen=True)
class LinkedToTeacher:
    """What is the teacher's left in its files, which must stay as they are.

    Attributes:
        path: the file to write, in the teacher's folder.
        teacher: as it was read from there.
        force: replace a file that is there.
    """

    path: str | os.PathLike[str]
    teacher: Source
    force: bool = False

    def check(self, teacher: Source) -> None:
        """Raise OSError as other files do, UsageError where the teacher cannot be referred to."""
        target = Path(self.path)
        writer.check(target, teacher.files | self.teacher.files, force=self.force)
        teacher_link.check_folder(self.teacher, target)

    def write(self, model: Stored, progress: Progress | None = None) -> Path:
        """Write it; raises OSError, and ModelError where what changed is over 2 GiB."""
        rope = teacher_link.linked(model.rope, self.teacher)
        if rope.size > LIMIT:
            raise ModelError(
                "what changed is over 2 GiB, too much for a linked model", "write all of it"
            )
        writer.write(rope, Path(self.path), progress)
        return Path(self.path)


@dataclass(frozen=True)
class InMemory:
    """A self-contained ModelProto."""

    def check(self, teacher: Source) -> None:
        """Nothing is in the way before the model is made."""

    def write(self, model: Stored, progress: Progress | None = None) -> ModelProto:
        """The model; raises ModelError over 2 GiB and where external data is missing."""
        whole = self_contained(model)
        if whole.size > LIMIT:
            raise ModelError("the model is over 2 GiB, more than a ModelProto holds", "use output=")
        return ModelProto.FromString(whole.read(0, whole.size))


def form_of(output: str | os.PathLike[str] | OutputForm | None, force: bool = False) -> OutputForm:
    """The form that an `output=` stands for: a path is one file, None is in memory.

    Args:
        output: a path, a form, or None.
        force: with a path: replace a file that is there. A form says that itself.
    """
    if output is None:
        return InMemory()
    if isinstance(output, (str, os.PathLike)):
        return SingleFile(output, force)
    if force:
        raise UsageError("force goes with a path", "say it in the form: Form(path, force=True)")
    return output


def self_contained(model: Stored) -> Rope:
    """The model with everything inside, and no word of files elsewhere."""
    return external_data.inlined(teacher_link.stamped(model.rope, None), model.directory)
