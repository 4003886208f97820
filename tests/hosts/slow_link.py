"""A cable that delays and loses packets: `slow_link ONE OTHER DELAY_MS LOSS_PERCENT` joins two network devices.

Frames go through with the kernel's own header (checksums and segmentation left to the device), so they arrive as sent.
"""

import random
import selectors
import socket
import sys
import time
from collections import deque
from contextlib import suppress
from typing import Final

# From linux/if_ether.h and linux/if_packet.h.
_ETH_P_ALL: Final = 0x0003
_SOL_PACKET: Final = 263
_PACKET_VNET_HDR: Final = 15
_PACKET_IGNORE_OUTGOING: Final = 23
# A frame that the device is to cut into segments has up to 64 KiB.
_FRAME_BYTES: Final = 1 << 17


def main(one: str, other: str, delay_ms: str, loss_percent: str) -> None:
    """Carry frames both ways until killed."""
    delay_seconds, loss = int(delay_ms) / 1000, int(loss_percent) / 100
    ends = _open(one), _open(other)
    # All are delayed alike, so they are due in the order in which they came.
    waiting: deque[tuple[float, socket.socket, bytes]] = deque()
    with ends[0], ends[1], selectors.DefaultSelector() as selector:
        selector.register(ends[0], selectors.EVENT_READ, ends[1])
        selector.register(ends[1], selectors.EVENT_READ, ends[0])
        while True:
            for key, _ in selector.select(max(0.0, waiting[0][0] - time.monotonic()) if waiting else None):
                source = ends[0] if key.data is ends[1] else ends[1]
                with suppress(BlockingIOError):
                    while True:
                        frame = source.recv(_FRAME_BYTES)
                        if random.random() >= loss:
                            waiting.append((time.monotonic() + delay_seconds, key.data, frame))
            while waiting and waiting[0][0] <= time.monotonic():
                _, target, frame = waiting.popleft()
                with suppress(OSError):  # a full device loses packets too
                    target.send(frame)


def _open(device: str) -> socket.socket:
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    end.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
    end.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    end.bind((device, _ETH_P_ALL))
    end.setblocking(False)
    return end


if __name__ == "__main__":
    main(*sys.argv[1:])
