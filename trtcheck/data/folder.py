"""Image folders, ``folder/<class>/*.png`` or flat, decoded by Pillow when they are read."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from trtcheck import digests
from trtcheck.case import InputSpec
from trtcheck.data.decoders import DecodedAhead
from trtcheck.errors import DataError

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")

# What Pillow raises for files that are damaged, truncated, absurdly large or no images.
_UNREADABLE = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


class FolderImages:
    """Images of a folder in the order of their names, class folder by class folder.

    Args:
        path: The folder: ``<class>/<image>``, or images alone, which have no labels then.
        classes: Class names; a label is the position of its folder's name. None takes the sorted folders.
        spec: Says how images are resized, cropped and coloured.
        where: What messages name as the place.

    Raises:
        DataError: There are no images, or folders that are no class.
    """

    def __init__(self, path: Path, classes: Sequence[str] | None, spec: InputSpec, where: str) -> None:
        self.name = str(path)
        self._path = path
        self._spec = spec
        _check_spec(spec, where)
        folders, images = _listing(path)
        if folders and images:
            raise DataError(
                f"image '{images[0].name}' lies beside class folders",
                where=where,
                expected=f"images in class folders such as '{folders[0].name}', or no folders at all",
                found=f"{len(images)} images beside {len(folders)} folders",
            )
        self.class_names = _class_names(folders, classes, where)
        self.labels: np.ndarray | None = None
        if self.class_names is not None:
            files = {folder: _class_images(folder, where) for folder in folders}
            images = [file for folder in folders for file in files[folder]]
            position = {name: index for index, name in enumerate(self.class_names)}
            numbers = [position[folder.name] for folder in folders]
            self.labels = np.repeat(np.array(numbers, np.int64), [len(files[folder]) for folder in folders])
        if not images:
            raise DataError(
                "the image folder is empty",
                where=where,
                expected=f"<class>/<image> ending in {', '.join(SUFFIXES)}",
                found=f"no image in {len(folders)} class folders" if folders else "no image and no folder",
            )
        self._files = images

    def __len__(self) -> int:
        return len(self._files)

    def file(self, index: int) -> Path:
        """The file of an image."""
        return self._files[index]

    @cached_property
    def _shape(self) -> tuple[int, ...]:
        return decode(self._files[0], self._spec).shape

    def read(self, start: int, stop: int) -> Mapping[str, np.ndarray]:
        """The images *start* to *stop* (exclusive) as one uint8 array ``images``.

        Returns:
            (N, H, W, C), or (N, H, W) where ``color`` is ``"L"``.

        Raises:
            DataError: A file cannot be decoded, or its size differs from that of the first.
        """
        # Threads of one call: starting them costs nothing beside decoding a batch, and none outlives it.
        span = range(len(self))[start:stop]
        with self.reading(span) as ahead:
            return ahead.read(span.start, span.stop)

    def reading(self, span: range) -> DecodedAhead:
        """What reads the images *span* piece by piece, in a ``with`` block.

        Its ``read`` is that of this folder, and its threads decode the pieces that follow meanwhile.

        Raises:
            DataError: The first image cannot be decoded.
        """
        return DecodedAhead(self._decoded, self._shape, span)

    def _decoded(self, index: int) -> np.ndarray:
        """An image.

        Raises:
            DataError: It cannot be decoded, or its size differs from that of the first.
        """
        file, shape = self._files[index], self._shape
        image = decode(file, self._spec)
        if image.shape != shape:
            raise DataError(
                "the images differ in size",
                where=file,
                expected=f"{shape[0]} x {shape[1]} (height x width), as {self._files[0]}",
                found=f"{image.shape[0]} x {image.shape[1]}",
                hint="set resize and crop under [models.<name>.input]",
            )
        return image

    def digest(self) -> str:
        """Digest of relative names, file contents, resize, crop and colour."""
        return self.digest_of(0, len(self))

    def digest_of(self, start: int, stop: int) -> str:
        """The same of the images *start* to *stop* (exclusive); nothing is decoded.

        Raises:
            DataError: A file cannot be read.
        """
        digest = digests.of_json(
            {"resize": self._spec.resize, "crop": self._spec.crop, "color": self._spec.color}
        )
        for file in self._files[start:stop]:
            try:
                content = digests.of_files([file])
            except OSError as error:
                raise DataError("cannot be read", where=file, found=error) from error
            digest = digests.of_json([digest, file.relative_to(self._path).as_posix(), content])
        return digest


def _check_spec(spec: InputSpec, where: str) -> None:
    if spec.color not in ("RGB", "BGR", "L"):
        raise DataError("unknown color", where=where, expected="RGB, BGR or L", found=repr(spec.color))
    for key, value in (("resize", spec.resize), ("crop", spec.crop)):
        if value is not None and min(_pair(value)) < 1:
            raise DataError(f"{key} leaves nothing", where=where, expected="1 pixel or more", found=value)


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _listing(folder: Path) -> tuple[list[Path], list[Path]]:
    """Folders and images in *folder*, both sorted by name; hidden ones are left out."""
    entries = sorted(
        (entry for entry in folder.iterdir() if not entry.name.startswith(".")), key=lambda entry: entry.name
    )
    folders = [entry for entry in entries if entry.is_dir()]
    return folders, [entry for entry in entries if entry.suffix.lower() in SUFFIXES and entry.is_file()]


def _class_names(
    folders: Sequence[Path], classes: Sequence[str] | None, where: str
) -> tuple[str, ...] | None:
    if not folders:
        return None
    if classes is None:
        return tuple(folder.name for folder in folders)
    unknown = [folder.name for folder in folders if folder.name not in classes]
    if unknown:
        raise DataError(
            f"folder '{unknown[0]}' is no class",
            where=where,
            expected=f"one of {', '.join(classes)}",
            found=", ".join(unknown),
            hint="name the folders as in classes = […], or rename the classes",
        )
    return tuple(classes)


def _class_images(folder: Path, where: str) -> list[Path]:
    folders, images = _listing(folder)
    if folders:
        raise DataError(
            f"class folder '{folder.name}' holds another folder",
            where=where,
            expected="<class>/<image>",
            found=f"{folder.name}/{folders[0].name}/",
        )
    return images


def decode(file: Path, spec: InputSpec) -> np.ndarray:
    """The image as uint8 (H, W, 3), or (H, W) for ``"L"``: upright, resized, cropped."""
    try:
        with Image.open(file) as image:
            decoded = _convert(ImageOps.exif_transpose(image), "L" if spec.color == "L" else "RGB")
    except _UNREADABLE as error:
        raise DataError(
            "cannot be read as an image",
            where=file,
            expected=f"an intact image ({', '.join(SUFFIXES)})",
            found=f"{type(error).__name__}: {error}",
        ) from error
    pixels = np.asarray(_crop(_resize(decoded, spec.resize), spec.crop, file))
    return pixels[..., ::-1] if spec.color == "BGR" else pixels


def _convert(image: Image.Image, mode: str) -> Image.Image:
    """Eight bits a channel, transparency dropped (as torchvision's loader does)."""
    if image.mode.startswith("I"):
        # Pillow would clip 16 bits at 255; only 16-bit greyscale PNGs have these modes here.
        levels = np.asarray(image).astype(np.uint32)
        image = Image.fromarray(((levels + 128) // 257).astype(np.uint8))
    elif image.mode == "P":
        image = image.convert("RGBA")  # knows every kind of palette transparency without a warning
    return image if image.mode == mode else image.convert(mode)


def _resize(image: Image.Image, resize: int | tuple[int, int] | None) -> Image.Image:
    """Bilinear with antialiasing; one number is the shorter side, the longer is cut to whole pixels."""
    if resize is None:
        return image
    if isinstance(resize, int):
        short, long = sorted(image.size)
        longer = resize * long // short
        width, height = (resize, longer) if image.width <= image.height else (longer, resize)
    else:
        height, width = resize
    return image.resize((width, height), Image.Resampling.BILINEAR)


def _crop(image: Image.Image, crop: int | tuple[int, int] | None, file: Path) -> Image.Image:
    if crop is None:
        return image
    height, width = _pair(crop)
    if height > image.height or width > image.width:
        raise DataError(
            "is smaller than the crop",
            where=file,
            expected=f"at least {height} x {width} (height x width)",
            found=f"{image.height} x {image.width}",
            hint="set resize under [models.<name>.input] to enlarge it first",
        )
    top, left = round((image.height - height) / 2), round((image.width - width) / 2)
    return image.crop((left, top, left + width, top + height))
