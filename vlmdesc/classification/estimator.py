"""A classifier that learns in place, as scikit-learn wants it of a step of a pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vlmdesc.classification.classifier import Classifier


class Estimator:
    """Whatever the classifier does that it has; after `fit`, the one that learned. The given one stays as it is."""

    def __init__(self, classifier: Classifier, head: str = "prototypes") -> None:
        self.classifier, self.head = classifier, head

    def fit(self, images: object, labels: object) -> Estimator:
        """Learn from images or embeddings and the names or numbers of their classes. Raises: as `Classifier.fit`."""
        self.fitted_ = self.classifier.fit(images, labels, self.head)
        return self

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """What it was made of."""
        return {"classifier": self.classifier, "head": self.head}

    def set_params(self, **params: Any) -> Estimator:
        """Another classifier, or another head to fit."""
        self.__init__(**(self.get_params() | params))  # type: ignore[misc]
        return self

    def __sklearn_clone__(self) -> Estimator:
        return Estimator(self.classifier, self.head)

    def __getattr__(self, name: str) -> Any:
        if name in ("classifier", "head", "fitted_"):  # not there yet
            raise AttributeError(name)
        return getattr(self.__dict__.get("fitted_", self.classifier), name)
