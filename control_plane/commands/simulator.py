# SPDX-License-Identifier: Apache-2.0
"""`qcos simulator serve`: this machine's simulator for planes elsewhere, over HTTPS. docs/drivers/remote.md has all."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

HOME = ".qcos-simulator"
ENGINES = ("aer", "aws-braket", "ibm-quantum")


def register(groups: Any) -> None:
    """Add the command."""
    simulator = groups.add_parser("simulator", help="a simulator for planes elsewhere").add_subparsers(
        title="commands", metavar="COMMAND", dest="action", required=True
    )
    serve = simulator.add_parser("serve", help="serve a local engine over HTTPS until stopped")
    serve.add_argument("--home", metavar="DIR", type=Path, default=Path(HOME), help=f"keys and certificate; {HOME}")
    serve.add_argument(
        "--host", metavar="HOST", default="127.0.0.1", help="the address to listen on; this machine's own"
    )
    serve.add_argument("--port", metavar="PORT", type=int, default=0, help="0 takes a free one")
    serve.add_argument("--name", metavar="HOST", help="what planes call this machine, if not HOST")
    serve.add_argument("--token-file", metavar="FILE", type=Path, help="the bearer token; one is made otherwise")
    serve.add_argument("--certificate", metavar="FILE", type=Path, help="PEM; self-signed otherwise")
    serve.add_argument("--key", metavar="FILE", type=Path, help="the certificate's key, PEM")
    serve.add_argument("--keep", metavar="FOLDER", type=Path, help="tokens and results that survive a restart")
    serve.add_argument("--engine", choices=ENGINES, default="aer", help="the provider whose local engine is served")
    serve.add_argument("--device", metavar="ID", help="what the simulator is called in the protocol; the engine's word")
    serve.add_argument("--engine-device", metavar="NAME", help="the engine's own name of a device")
    serve.add_argument("--method", metavar="METHOD", default="automatic", help="how the engine simulates")
    serve.add_argument("--noise", metavar="MODEL", help="the engine's noise model")
    serve.add_argument("--children", metavar="N", type=int, default=1, help="runs at once")
    serve.add_argument("--memory-mb", metavar="MB", type=int, default=1024, help="what one run may use")
    serve.add_argument("--max-shots", metavar="N", type=int, default=1_000_000)
    serve.add_argument("--rate", metavar="N", type=float, default=200.0, help="requests a second")
    serve.add_argument("--insecure-walls", action="store_true", help="serve although the kernel grants too few walls")
    serve.add_argument("--json", action="store_true", help="one document when it answers")
    serve.set_defaults(run=_serve)


def _serve(arguments: argparse.Namespace) -> None:
    import asyncio
    import ssl

    from control_plane.errors import Refused
    from hal_drivers.errors import DriverError
    from hal_drivers.simulator.certificate import CertificateUnusable
    from hal_drivers.simulator.serve import serve

    try:
        asyncio.run(serve(_options(arguments), lambda server: _tell(arguments, server)))
    except (CertificateUnusable, ssl.SSLError, OSError, ValueError) as error:
        raise Refused("unusable_input", str(error)) from None
    except DriverError as error:
        raise Refused("start_failed", error.detail) from None


def _options(arguments: argparse.Namespace) -> Any:
    from control_plane.errors import Refused
    from hal_drivers.simulator.serve import Options

    if (arguments.certificate is None) != (arguments.key is None):
        raise Refused("usage", "--certificate and --key are given together")
    for name, least in (("children", 1), ("memory_mb", 64), ("max_shots", 1), ("rate", 1)):
        if getattr(arguments, name) < least:
            raise Refused("usage", f"--{name.replace('_', '-')} is at least {least}")
    if arguments.host in ("0.0.0.0", "::") and arguments.name is None:
        raise Refused("usage", f"--host {arguments.host} is no name that a certificate can carry; add --name HOST")
    return Options(
        home=arguments.home,
        host=arguments.host,
        port=arguments.port,
        name=arguments.name,
        token_file=arguments.token_file,
        certificate=arguments.certificate,
        key=arguments.key,
        keep=arguments.keep,
        engine=arguments.engine,
        device=arguments.device or arguments.engine,
        vendor_device=arguments.engine_device,
        method=arguments.method,
        noise=arguments.noise,
        children=arguments.children,
        memory_bytes=arguments.memory_mb << 20,
        max_shots=arguments.max_shots,
        per_s=arguments.rate,
        require_walls=not arguments.insecure_walls,
    )


def _tell(arguments: argparse.Namespace, server: Any) -> None:
    import os
    import sys

    from control_plane import tables

    name = f"remote-{arguments.device or arguments.engine}"
    table = {
        "id": name,
        "provider": "remote",
        "region": "REGION",
        "compliance_zone": "ZONE",
        "url": server.url,
        "ca": server.certificate,
        "credential": name,
    }
    lines = ["[[backend]]", *(f'{name} = "{value}"' for name, value in table.items())]
    if arguments.json:
        tables.document(
            {
                "url": server.url,
                "certificate": server.certificate,
                "token_file": server.token_file,
                "authoritative": server.authoritative,
                "walls": server.walls,
                "pid": os.getpid(),
                "backend": table,
            }
        )
    else:
        put = f"qcos backends credential set {name} --from-file {server.token_file}"
        survives = f"survive a restart, in {arguments.keep}" if server.authoritative else "end with this process"
        sys.stdout.write(
            f"Serving {arguments.engine} at {server.url}; results {survives}.\n"
            f"In the plane's qcos.toml (the certificate's file copied there):\n\n"
            + "\n".join(lines)
            + f"\n\nOn the machine of its workers, with the token:  {put}\n"
        )
    sys.stdout.flush()
