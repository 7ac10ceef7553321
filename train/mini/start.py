"""The first weights of a model that is trained on from a folder."""

from mindspore import Tensor, nn

from emu3.errors import InputError


def start_from(folder: str, begun: nn.Cell, model: nn.Cell, sized_by: str) -> None:
    """Give a model, whose sizes the flags `sized_by` say, the weights of the one from `folder`.

    Raises:
        InputError: they are those of a model of other sizes.
    """
    found, wanted = dict(begun.parameters_and_names()), dict(model.parameters_and_names())
    for name in sorted(found.keys() | wanted.keys()):
        sizes = [tuple(some[name].shape) if name in some else None for some in (found, wanted)]
        if sizes[0] != sizes[1]:
            raise InputError(
                f"--model {folder}: {name} is {sizes[0]}; allowed: {sizes[1]}, of {sized_by}; "
                f"change --model or {sized_by}"
            )
    for name, parameter in wanted.items():
        parameter.set_data(Tensor(found[name].asnumpy()))
