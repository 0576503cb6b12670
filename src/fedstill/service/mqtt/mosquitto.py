"""A Mosquitto broker for a consortium: writes all that it needs into a folder.

    mosquitto.conf   members.acl  newcomers.acl   authority.pem  broker.pem  broker.key

Members come to one port and show their certificates, whose names become their names with the broker; what they may read
and write follows from these (`%u`), so that nothing has to be written again when a party joins. Newcomers come to a
second port without a certificate, and may do nothing but enrol. The broker does not know who was revoked: those can
still connect, and the coordinator does not answer them any more.
"""

from __future__ import annotations

import ipaddress
from datetime import datetime
from pathlib import Path

from fedstill.errors import ConfigError
from fedstill.files import write_whole
from fedstill.transports.authority import Authority
from fedstill.transports.identity import Identity
from fedstill.transports.letters import COORDINATOR
from fedstill.transports.mqtt.connection import MAX_PACKET_BYTES
from fedstill.transports.mqtt.frames import Address, Topics
from fedstill.transports.roles import Role

BROKER_DAYS = 365


def write_broker(
    folder: Path,
    authority: Authority,
    address: str,
    now: datetime,
    *,
    listen: str = "",
    user: str = "",
    days: int = BROKER_DAYS,
) -> Path:
    """Make a key and a certificate for a broker, and write its configuration.

    Parameters
    ----------
    folder:
        Is made where it does not exist; what is in it is written anew.
    authority:
        Of the consortium.
    address:
        By which members will find the consortium: mqtts://host:port/consortium?enrol=port. Without the second port,
        nobody can enrol over MQTT.
    now:
        With a time zone.
    listen:
        The IP address of the broker's machine to listen at; empty: all.
    user:
        Whom the broker becomes where root starts it, "mosquitto" if empty; it has to be able to read the folder.
    days:
        After which the broker's certificate ends.

    Returns
    -------
    The configuration; start the broker with `mosquitto -c` and this file.

    Raises
    ------
    ConfigError
        Where the address cannot be used.
    """
    where = Address.parse(address)
    if listen:
        _check_listen(listen)
    key = Identity.create("p256")
    certificate = authority.certify(key.request_pem("broker"), "broker", Role.SERVER, now, days, [where.host])
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "broker.key", key.key_pem, private=True)
    write_whole(folder / "broker.pem", certificate)
    write_whole(folder / "authority.pem", authority.cert_pem)
    write_whole(folder / "members.acl", _members(where.topics).encode())
    write_whole(folder / "newcomers.acl", _newcomers(where.topics).encode())
    path = folder / "mosquitto.conf"
    write_whole(path, _configuration(folder.resolve(), where, listen, user).encode())
    return path


def _members(topics: Topics) -> str:
    mine = COORDINATOR
    return f"""\
# The coordinator hears all, and answers all.
user {mine}
topic read {topics.up("+")}
topic read {topics.new_up("+")}
topic write {topics.down("+")}
topic write {topics.new_down("+")}
topic write {topics.gone}

# Every member, by the name in its certificate.
pattern write {topics.up("%u")}
pattern read {topics.down("%u")}
pattern read {topics.gone}
"""


def _newcomers(topics: Topics) -> str:
    return f"""\
# Who has no certificate yet, by the name that it gives itself for one connection.
pattern write {topics.new_up("%c")}
pattern read {topics.new_down("%c")}
"""


def _configuration(folder: Path, where: Address, listen: str, user: str) -> str:
    if "\n" in str(folder):
        raise ConfigError("a line break cannot stand in the path of a broker's folder", where=repr(str(folder)))
    tls = f"""\
cafile {folder}/authority.pem
certfile {folder}/broker.pem
keyfile {folder}/broker.key"""
    members = f"""\
listener {where.port} {listen}
{tls}
require_certificate true
use_identity_as_username true
allow_anonymous false
acl_file {folder}/members.acl
"""
    newcomers = f"""
listener {where.enrol_port} {listen}
{tls}
allow_anonymous true
acl_file {folder}/newcomers.acl
"""
    return f"""\
# A broker for the consortium '{where.topics.consortium}'. Started by root, it becomes another user before it reads its
# files: they have to be that user's.
{f"user {user}" if user else "#user mosquitto"}
per_listener_settings true
persistence false
set_tcp_nodelay true
max_packet_size {MAX_PACKET_BYTES}
max_queued_messages 1000

{members}{newcomers if where.enrol_port != where.port else ""}"""


def _check_listen(listen: str) -> None:
    try:
        ipaddress.ip_address(listen)
    except ValueError:
        raise ConfigError(f"{listen[:80]!r} is no IP address", where="listen") from None
