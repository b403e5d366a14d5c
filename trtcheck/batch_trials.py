"""Images alone and inside other batches, through an engine: the measurement of ``batch_invariance``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from trtcheck.batch_invariance import BatchInvariance, tolerance_of
from trtcheck.class_scores import as_scores
from trtcheck.data.batches import read_feeds
from trtcheck.errors import TrtcheckError
from trtcheck.metrics.between_batches import AnswerDifference, OutputDifference, Scores, Watched, watch
from trtcheck.profiles import batch_limits

if TYPE_CHECKING:
    from trtcheck.backends.base import BuiltEngine, LoadedEngine
    from trtcheck.case import Case, EngineSpec
    from trtcheck.model import Signature
    from trtcheck.resolve import Resolved

Feeds = Mapping[str, np.ndarray]

IMAGES = 32
"""Images that are tried; fewer where each of them needs many rows to be alone."""
_FEWEST = 8
_ROWS_ALONE = 512
_ODD = 7
"""A batch that is no multiple of what kernels are tiled by."""
_SEED = 0


@dataclass(frozen=True)
class Trials:
    """What is run.

    Attributes:
        feeds: The images that are tried, by input name, first axis the image.
        indices: Index of each of them in the data set.
        sizes: The batch sizes, ascending. An image is alone where it fills a batch of the smallest.
        scores: Name of the output with the class scores, and what makes (N, C) of its rows.
        tolerance: The relative L2 difference above which images are counted.
    """

    feeds: Feeds
    indices: tuple[int, ...]
    sizes: tuple[int, ...]
    scores: Scores | None
    tolerance: float

    @property
    def alone(self) -> list[np.ndarray]:
        """Every image by itself, by its position."""
        return [np.full(self.sizes[0], image) for image in range(len(self.indices))]

    @property
    def mixed(self) -> list[np.ndarray]:
        """Batches of different images; in one larger than their number, each stands at several places."""
        natural = np.arange(len(self.indices))
        shuffled = np.random.default_rng(_SEED).permutation(natural)
        largest = self.sizes[-1]
        between = self.sizes[1] if len(self.sizes) > 2 else largest
        orders = ((largest, natural), (largest, natural[::-1]), (between, shuffled))
        return [batch for size, order in orders for batch in _filled(order, size)]


def _filled(order: np.ndarray, size: int) -> np.ndarray:
    """*order* as batches of *size*, begun again where the last one would not be full."""
    return np.resize(order, (-(-len(order) // size), size))


def try_batches(
    case: Case, engine: EngineSpec, built: BuiltEngine, resolved: Resolved, signature: Signature,
    loaded: LoadedEngine, reference: Callable[[], LoadedEngine], advance: Callable[[int], None],
) -> BatchInvariance:  # fmt: skip
    """What images of the case differ by between batches.

    Args:
        case: The case.
        engine: The engine's entry.
        built: The engine on disk.
        resolved: The opened case.
        signature: The inputs that the data are fed to.
        loaded: The engine.
        reference: Opens the original model; called only where the engine differs by too much.
        advance: Called with the number of images after every batch.

    Raises:
        EngineError: The engine refused a batch.
        DataError: An image cannot be used.
        CaseError: The scores do not fit the classes.
    """
    smallest, largest = limits_of(case, built, resolved.signature, loaded.signature)
    total, tolerance = len(resolved.images), tolerance_of(case, engine, built)
    indices = chosen(total, smallest)
    result = BatchInvariance(
        images=len(indices), total=total, sizes=sizes_of(smallest, largest), tolerance=tolerance
    )
    if largest == 1:
        return replace(result, reason=_TAKES_ONE.format(case.name))
    if total == 1:
        return replace(result, reason=f"{resolved.images.name} has one image: no other can stand beside it")
    feeds = _feeds(case, resolved, signature, indices)
    if all(bool((feed == feed[:1]).all()) for feed in feeds.values()):
        reason = f"all {len(indices)} images tried are the same: none can show what others do to it"
        return replace(result, reason=reason)
    scores: Scores | None = None
    if resolved.scores is not None:
        name, classes = resolved.scores, len(resolved.classes)
        scores = (name, lambda rows: as_scores(rows, classes, case, name))
    trials = Trials(feeds, indices, result.sizes, scores, tolerance)
    outputs, uncompared, answers = compare(loaded, trials, advance)
    result = replace(result, outputs=outputs, uncompared=uncompared, answers=answers)
    return _blamed(result, loaded, trials, reference) if result.beyond else result


_TAKES_ONE = "{} is run with one image at a time: no other stands beside it"


def limits_of(case: Case, built: BuiltEngine, reference: Signature, engine: Signature) -> tuple[int, int]:
    """The smallest and the largest batch that are tried: the case's, and what the engine takes."""
    fixed = engine.fixed_batch or reference.fixed_batch
    if fixed is not None:
        return fixed, fixed
    limits = batch_limits(built.facts.get("profile") or {})
    if limits is None:
        return 1, case.batch
    low, high = limits
    wanted = max(low, min(case.batch, high))
    # Where the case runs as few as that, some more are enough: the profile may allow thousands.
    return low, wanted if wanted > low else min(high, low + _ODD)


def sizes_of(smallest: int, largest: int) -> tuple[int, ...]:
    """The batch sizes that are tried, ascending: both ends, and an odd one between."""
    between = min(_ODD, largest - 1)
    return tuple(sorted({smallest, largest, max(smallest, between)}))


def chosen(images: int, smallest: int) -> tuple[int, ...]:
    """Evenly spaced indices of the images that are tried.

    Args:
        images: Images in the data set.
        smallest: The smallest batch: an image alone costs as many rows.
    """
    count = min(images, IMAGES, max(_FEWEST, _ROWS_ALONE // smallest))
    return tuple(int(index) for index in np.linspace(0, images - 1, count).round())


def _feeds(case: Case, resolved: Resolved, signature: Signature, indices: Sequence[int]) -> Feeds:
    """What the images *indices* are fed as, by input name."""
    rows = [read_feeds(resolved.images, signature, case.input, index, index + 1) for index in indices]
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def compare(
    engine: LoadedEngine, trials: Trials, advance: Callable[[int], None] = lambda _count: None
) -> tuple[tuple[OutputDifference, ...], tuple[str, ...], AnswerDifference | None]:
    """Runs *trials* through *engine*.

    Returns:
        The difference of each output, why the others have not been compared, and whose answer differs (None
        without class scores).

    Raises:
        EngineError: The engine refused a batch.
    """

    def asked(batch: np.ndarray) -> Feeds:
        found = engine.infer({name: feed[batch] for name, feed in trials.feeds.items()})
        advance(len(batch))
        return found

    return _compared(asked, [*trials.alone, *trials.mixed], asked(trials.mixed[0]), trials)


def repeat(engine: LoadedEngine, trials: Trials) -> tuple[OutputDifference, ...]:
    """What one batch differs by when it is asked for twice: of a deterministic engine, nothing.

    Raises:
        EngineError: The engine refused a batch.
    """
    batch = trials.mixed[0]
    feeds = {name: feed[batch] for name, feed in trials.feeds.items()}
    places = replace(trials, indices=tuple(trials.indices[image] for image in batch))
    same = np.arange(len(batch))
    return _compared(lambda _batch: engine.infer(feeds), [same, same], engine.infer(feeds), places)[0]


def _compared(
    asked: Callable[[np.ndarray], Feeds], queue: Sequence[np.ndarray], large: Feeds, trials: Trials
) -> tuple[tuple[OutputDifference, ...], tuple[str, ...], AnswerDifference | None]:
    """What comes of asking for the batches in *queue*; *large* is an answer to a batch of largest size."""
    watched: dict[str, Watched] = {}
    uncompared: dict[str, str] = {}
    for batch in queue:
        found = asked(batch)
        if not watched and not uncompared:
            sizes = (len(batch), trials.sizes[-1])
            watched, uncompared = watch(found, large, sizes, trials.indices, trials.scores)
        for name in list(watched):
            if name not in found or not watched[name].take(found[name], batch):
                del watched[name]
                uncompared[name] = f"output '{name}' changes its shape from batch to batch"
    rows = [(output, output.difference(trials.tolerance)) for output in watched.values()]
    for output, row in rows:
        if not output.elements and not row.nonfinite:
            uncompared[output.name] = f"output '{output.name}' holds no number that could be compared"
    scored = watched.get(trials.scores[0]) if trials.scores is not None else None
    return (
        tuple(row for _output, row in rows if row.name not in uncompared), tuple(uncompared.values()),
        None if scored is None else scored.answers(),
    )  # fmt: skip


def _blamed(
    result: BatchInvariance, loaded: LoadedEngine, trials: Trials, reference: Callable[[], LoadedEngine]
) -> BatchInvariance:
    """*result* with what tells whose fault it is: the engine asked twice, and the original model."""
    result = replace(result, repeated=repeat(loaded, trials))
    try:
        original = reference()
    except TrtcheckError as error:
        return replace(result, reference_error=" ".join(str(error).split()))
    try:
        return replace(result, reference=compare(original, trials)[0])
    except TrtcheckError as error:
        return replace(result, reference_error=" ".join(str(error).split()))
    finally:
        original.close()
