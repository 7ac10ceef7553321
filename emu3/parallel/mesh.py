"""Which process does what: world = data-parallel groups x sequence-parallel shards.

Ranks g * shards ... (g + 1) * shards - 1 hold the chunks of one sequence and read the same data;
every such group reads other data.
"""

from dataclasses import dataclass

from mindspore.communication import GlobalComm, create_group, get_group_size, get_rank, init

from emu3.errors import InputError
from emu3.parallel import started_by_launcher
from emu3.runtime import device_target

WORLD_GROUPS = {"CPU": "mccl_world_group", "Ascend": "hccl_world_group"}


@dataclass(frozen=True)
class Group:
    """Processes that exchange tensors; `name` is None for a group of this process alone."""

    name: str | None
    index: int
    size: int


ALONE = Group(None, 0, 1)


@dataclass(frozen=True)
class Mesh:
    """This process's place: `world` is everyone, `sequence` shares one sequence."""

    world: Group
    sequence: Group

    @property
    def data_index(self) -> int:
        """Which share of the data this process reads."""
        return self.world.index // self.sequence.size

    @property
    def data_size(self) -> int:
        """Number of shares of the data."""
        return self.world.size // self.sequence.size


def make_mesh(shards: int = 1) -> Mesh:
    """Join the job this process was started in and form its groups; alone without a job.

    Raises:
        InputError: `shards` does not divide the number of processes.
    """
    if started_by_launcher():
        if not GlobalComm.INITED:
            init()
        world = Group(WORLD_GROUPS[device_target()], get_rank(), get_group_size())
    else:
        world = ALONE
    if shards < 1 or world.size % shards:
        raise InputError(
            f"{shards} sequence shards for {world.size} processes; allowed: a divisor of the "
            "number of processes; change --sequence_parallel_shards"
        )
    return Mesh(world, _sequence_group(world, shards))


def _sequence_group(world: Group, shards: int) -> Group:
    if shards == 1:
        return ALONE
    if shards == world.size:
        return world
    number = world.index // shards
    name = f"sequence-{shards}-{number}"
    # Only members may create a group: a rank that creates a foreign one aborts.
    create_group(name, list(range(number * shards, (number + 1) * shards)))
    return Group(name, world.index % shards, shards)
