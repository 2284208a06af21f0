"""Moves a VM with the client that openapi-python-client has made of the contract.

Reads a VM's spec from the file given; writes the migration's report.
"""

import json
import os
import ssl
import sys
import time

from godwit_client import Client
from godwit_client.api.users import create_vm, get_attempt, get_vm, list_hosts, migrate_vm, start_vm
from godwit_client.models import AttemptPhase, MigrateRequest, ProblemDetails, RunState, StartRequest
from godwit_client.models import VmSpecInput

NAME = "controller.control.godwit"


def connect():
    """A client with an administrator's certificate that verifies the controller's name."""
    context = ssl.create_default_context(cafile=os.environ["GODWIT_CA"])
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(os.environ["GODWIT_CERT"], os.environ["GODWIT_KEY"])

    def name(request):
        request.extensions["sni_hostname"] = NAME

    return Client(
        base_url=os.environ["GODWIT_CONTROLLER"],
        verify_ssl=context,
        httpx_args={"event_hooks": {"request": [name]}},
    )


def wait(what, answer, good):
    """Asks until the answer is good."""
    for _ in range(300):
        last = answer()
        if good(last):
            return last
        time.sleep(0.1)
    sys.exit(f"{what}: the last answer was {last}")


def main():
    client = connect()
    with open(sys.argv[1]) as file:
        spec = VmSpecInput.from_dict(json.load(file))
    hosts = list_hosts.sync(client=client)
    assert [host.host for host in hosts] == ["host-a", "host-b"], hosts
    made = create_vm.sync(client=client, body=spec)
    assert made.spec.name == spec.name and made.desired == RunState.STOPPED, made
    again = create_vm.sync_detailed(client=client, body=spec)
    assert again.status_code == 409 and isinstance(again.parsed, ProblemDetails), again
    assert again.parsed.code == "vm-exists" and again.parsed.status == 409, again.parsed
    start_vm.sync(spec.name, client=client, body=StartRequest(on="host-a"))
    wait(
        "start",
        lambda: get_vm.sync(spec.name, client=client),
        lambda view: view.state == RunState.RUNNING,
    )
    order = MigrateRequest(to="host-b")
    dry = migrate_vm.sync(spec.name, client=client, body=order, dry_run=True)
    assert dry.report.to == "host-b", dry
    begun = migrate_vm.sync_detailed(
        spec.name, client=client, body=order, idempotency_key="move-1"
    )
    assert begun.status_code == 202, begun
    again = migrate_vm.sync_detailed(
        spec.name, client=client, body=order, idempotency_key="move-1"
    )
    assert again.parsed == begun.parsed and again.headers["idempotent-replayed"] == "true", again
    ended = wait(
        "migration",
        lambda: get_attempt.sync(begun.parsed.report.attempt, client=client),
        lambda view: view.phase == AttemptPhase.DONE,
    )
    print(json.dumps(ended.report.to_dict()))


main()
