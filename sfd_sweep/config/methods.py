"""The methods of unlearning that a trial may use: their names, and the papers they are from."""

from dataclasses import dataclass
from typing import Literal, get_args

Method = Literal["sfd", "finetune", "ascent", "esd", "sa", "salun", "uce", "swap"]


@dataclass(frozen=True)
class MethodSource:
    """Where a method is from.

    Attributes:
        title: its name in words.
        citation: of its paper; "" if it is a baseline without one.
        url: of the paper.
        kinds: of tasks (`task.kind`) that it applies to.
        needs_generator: whether it unlearns a distilled generator, so that it cannot start from the teacher.
        needs_null_condition: whether it asks the generator for the null condition.
        is_trained: whether its updates change the generator.
        reads_override: whether it leads forgotten conditions to an override.
        reads: settings of all methods that one without training reads.
    """

    title: str
    citation: str = ""
    url: str = ""
    kinds: tuple[str, ...] = ("class", "concept")
    needs_generator: bool = True
    needs_null_condition: bool = False
    is_trained: bool = True
    reads_override: bool = False
    reads: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.title} ({self.citation}; {self.url})" if self.citation else self.title


METHODS: dict[Method, MethodSource] = {
    "sfd": MethodSource(
        "Score Forgetting Distillation",
        "Chen, Zhang & Zhou, ICLR 2025",
        "https://arxiv.org/abs/2409.11219",
        needs_generator=False,
        reads_override=True,
    ),
    "finetune": MethodSource(
        "Score identity Distillation of the retained conditions alone",
        "Zhou et al., ICML 2024",
        "https://arxiv.org/abs/2404.04057",
        needs_generator=False,
    ),
    "ascent": MethodSource(
        "gradient ascent", "Golatkar, Achille & Soatto, CVPR 2020", "https://arxiv.org/abs/1911.04933"
    ),
    "esd": MethodSource(
        "Erased Stable Diffusion",
        "Gandikota et al., ICCV 2023",
        "https://arxiv.org/abs/2303.07345",
        needs_null_condition=True,
    ),
    "sa": MethodSource("Selective Amnesia", "Heng & Soh, NeurIPS 2023", "https://arxiv.org/abs/2305.10120"),
    "salun": MethodSource(
        "Saliency Unlearning", "Fan et al., ICLR 2024", "https://arxiv.org/abs/2310.12508", reads_override=True
    ),
    "uce": MethodSource(
        "Unified Concept Editing",
        "Gandikota et al., WACV 2024",
        "https://arxiv.org/abs/2308.14761",
        kinds=("concept",),
        is_trained=False,
        reads_override=True,
        reads=("method", "override", "t_init", "forget_weight", "retain_weight"),
    ),
    "swap": MethodSource(
        "exchange of embeddings, a null baseline that forgets nothing",
        kinds=("class",),
        is_trained=False,
        reads_override=True,
        reads=("method", "override", "t_init"),
    ),
}
if set(METHODS) != set(get_args(Method)):
    raise NotImplementedError("METHODS and Method name different methods")
