# SPDX-License-Identifier: Apache-2.0
"""A simulator on another machine, over HTTPS (G14): the driver, its one connection outward, and the protocol's words.

``docs/drivers/remote.md`` is the protocol; ``hal_drivers.simulator`` serves it. What the far side says is judged as a
stranger's word, and no circuit byte is parsed here.
"""
