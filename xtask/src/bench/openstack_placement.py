"""Measures OpenStack Placement as a peer: its WSGI application in this process, on SQLite.

Reads one JSON object from standard input: {"hosts": [[cpu, memory_mib, storage_gib], ...],
"requests": [[cpu, memory_mib, storage_gib], ...]}. Loads the hosts as resource providers, then
asks for allocation candidates for each request, with Nova's own limit of 1,000 candidates, and
prints {"decisions_per_s", "p50_us", "p99_us", "requests"} by the CPU time of the thread.

Answering the question "which hosts fit" is all that is timed: no claim is made, because ours
makes none either. Rows are written by SQL as its API would write them, one request for each
host would take minutes.
"""

import json
import logging
import sys
import tempfile
import time
import uuid
import warnings

warnings.filterwarnings("ignore")
logging.disable(logging.CRITICAL)

import webob
from oslo_config import cfg
from placement import conf as placement_conf
from placement import db_api, deploy
from placement.db.sqlalchemy import migration
from sqlalchemy import text

VERSION = {"OpenStack-API-Version": "placement 1.39", "Accept": "application/json"}
CLASSES = ("VCPU", "MEMORY_MB", "DISK_GB")
CANDIDATES_MAX = 1000


def application(folder):
    config = cfg.ConfigOpts()
    placement_conf.register_opts(config)
    path = f"{folder}/placement.conf"
    with open(path, "w") as file:
        file.write(
            "[placement_database]\n"
            f"connection = sqlite:///{folder}/placement.db\n"
            "[api]\nauth_strategy = noauth2\n"
        )
    config([], project="placement", default_config_files=[path])
    db_api.configure(config)
    engine = db_api.get_placement_engine()
    migration.create_schema(engine)
    deploy.update_database(config)
    return deploy.loadapp(config), engine


def load(engine, hosts):
    providers, inventories = [], []
    with engine.begin() as connection:
        rows = connection.execute(text("select id, name from resource_classes"))
        classes = {name: number for number, name in rows}
        for number, totals in enumerate(hosts, start=1):
            providers.append({"id": number, "uuid": str(uuid.uuid4()), "name": f"host{number}"})
            for name, total in zip(CLASSES, totals):
                inventories.append({"host": number, "class": classes[name], "total": total})
        connection.execute(
            text(
                "insert into resource_providers (id, uuid, name, generation, root_provider_id)"
                " values (:id, :uuid, :name, 0, :id)"
            ),
            providers,
        )
        connection.execute(
            text(
                "insert into inventories (resource_provider_id, resource_class_id, total,"
                " reserved, min_unit, max_unit, step_size, allocation_ratio)"
                " values (:host, :class, :total, 0, 1, :total, 1, 1.0)"
            ),
            inventories,
        )


def ask(app, wanted):
    resources = ",".join(f"{name}:{amount}" for name, amount in zip(CLASSES, wanted))
    url = f"/allocation_candidates?resources={resources}&limit={CANDIDATES_MAX}"
    request = webob.Request.blank(url, headers={**VERSION, "X-Auth-Token": "admin"})
    start = time.thread_time_ns()
    response = request.get_response(app)
    spent = time.thread_time_ns() - start
    if response.status_int != 200:
        sys.exit(f"allocation_candidates answered {response.status}: {response.text[:300]}")
    if not json.loads(response.body)["allocation_requests"]:
        sys.exit(f"no candidate for {wanted}: the hosts are too small to compare")
    return spent


def main():
    job = json.load(sys.stdin)
    with tempfile.TemporaryDirectory() as folder:
        app, engine = application(folder)
        load(engine, job["hosts"])
        ask(app, job["requests"][0])
        spent = sorted(ask(app, wanted) for wanted in job["requests"])
    share = lambda part: spent[min(len(spent) - 1, int(len(spent) * part))] / 1000
    result = {
        "decisions_per_s": len(spent) / sum(spent) * 1e9,
        "p50_us": share(0.50),
        "p99_us": share(0.99),
        "requests": len(spent),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
