"""What a segmentor is trained on: the regimes of FreeMask (https://arxiv.org/abs/2310.15160, section on training)."""

from dataclasses import dataclass
from typing import Any

from freemask import plugins


@dataclass(frozen=True)
class Regime:
    """Which pairs a segmentor is trained on, from which weights, at which learning rates, in which order.

    title: what tables call the regime.
    real, synthetic: whether training uses the real pairs and the pairs of the synthetic set; real ones come first.
    pretrained: regime of the experiment whose weights training starts from: the row with the same data set, model,
        train seed and (if it uses one) synthetic set. None: the model's own initial weights.
    rate: factor on the model's learning rate.
    one_rate: whether backbone and heads share one learning rate (weight decay stays as it is).
    sampler: name of a sampler (see SAMPLERS). None: the experiment's column `balance` names it.
    """

    title: str
    real: bool = False
    synthetic: bool = False
    pretrained: str | None = None
    rate: float = 1.0
    one_rate: bool = False
    sampler: str | None = "shuffled"

    @property
    def only_real(self) -> bool:
        """Whether no synthetic image influences the weights: scorers and baselines are trained like this."""
        return not self.needs_synthetic_set

    @property
    def needs_synthetic_set(self) -> bool:
        """Whether this regime, or one that it starts from, trains on a synthetic set."""
        return self.synthetic or (self.pretrained is not None and find_regime(self.pretrained).needs_synthetic_set)


REGIMES = {
    "real": Regime("real", real=True),
    "synthetic": Regime("synthetic", synthetic=True),
    "finetune": Regime("synthetic, then real", real=True, pretrained="synthetic", rate=0.5, one_rate=True),
    "joint": Regime("real + synthetic", real=True, synthetic=True, sampler=None),
}

# Names of samplers, and the training config's entry for each. Outside the package: a class, "package.module:object".
SAMPLERS: dict[str, dict[str, Any]] = {
    "shuffled": {"type": "ShuffledSampler"},
    "exact": {"type": "BalancedSampler"},  # every mini-batch half real, half synthetic
    "repeat": {"type": "ShuffledSampler", "repeat_real": True},  # halves on average only, as released
}


def find_regime(name: str) -> Regime:
    """A regime by its name in REGIMES, or "package.module:object"; InputError for an unknown one."""
    return plugins.find(REGIMES, name, "regime")
