"""How long to measure and when to give up: every number here is an option of `bench run`, with its reason."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Policy:
    """Limits of one run.

    Attributes:
        block_seconds: time a framework is measured in one block; long beside timer noise and thread wake-ups.
        rewarm_seconds: untimed inferences at the start of a turn, because the other frameworks emptied the
            caches.
        warm_up_seconds: least time of running before the first block.
        warm_up_limit_seconds: most time of running before the first block, steady or not.
        least_blocks: below this an interval from the block bootstrap means little.
        most_blocks: a machine that is not steady after so many will not be.
        group_seconds: time of blocks after which a group ends once it has its least blocks.
        interval_width: stop when every speedup's interval is within ± this of its estimate.
        restarts: how often a worker that died in the middle is started anew before its cell is given up.
        pin_threads: 1 gives each thread of a worker a core of its own, the same for every framework; 0 leaves
            them to the scheduler, which may put two on one core for minutes.
        convert_timeout_seconds: longest wait for a conversion or compilation.
        convert_memory_share: part of the memory available at its start that a conversion may use.
        load_timeout_seconds: longest wait for a network to load.
        run_timeout_seconds: longest wait for a single inference (a block may take longer: its own time × 10).
        probe_seconds: time for measuring the peak, and again the bandwidth, of the device at each thread
            count; 0 leaves that out, and the reports have no roofline.
        settle_seconds: longest wait, before a block, for a phone to cool down or charge; afterwards it is
            measured and marked.
        skin_celsius: a phone whose skin is warmer is waited for.
        battery_celsius: a phone whose battery is warmer is waited for.
        battery_percent: a phone whose battery holds less is waited for: some lower their clocks then.
    """

    block_seconds: float = 0.2
    rewarm_seconds: float = 0.005
    warm_up_seconds: float = 0.5
    warm_up_limit_seconds: float = 5.0
    least_blocks: int = 10
    most_blocks: int = 40
    group_seconds: float = 240.0
    interval_width: float = 0.015
    restarts: int = 1
    pin_threads: int = 1
    convert_timeout_seconds: float = 1800.0
    convert_memory_share: float = 0.9
    load_timeout_seconds: float = 600.0
    run_timeout_seconds: float = 120.0
    probe_seconds: float = 0.25
    settle_seconds: float = 300.0
    skin_celsius: float = 35.0
    battery_celsius: float = 35.0
    battery_percent: float = 30.0
