"""Drives libtorrent for the interop tests.

    share.py share IP PORT SOURCE DIR       prints "has everything" once it has, and goes on seeding. In the environment:
                                            LSD=true: looks at the local network
                                            DHT=HOST:PORT: takes part in the DHT, beginning from that node
                                            SUPER=true: shows each peer a piece at a time (BEP 16)
    share.py create v1|hybrid PIECE TRACKER DATA TO
    share.py show TORRENT                   prints the v1 info-hash and the number of pieces
"""
import os
import signal
import sys

import libtorrent as lt


def share(ip, port, source, folder):
    dht = os.environ.get("DHT", "")
    ses = lt.session({
        "listen_interfaces": f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}",
        "outgoing_interfaces": ip,
        "enable_dht": bool(dht), "dht_bootstrap_nodes": dht,
        "enable_lsd": os.environ.get("LSD") == "true", "enable_upnp": False, "enable_natpmp": False,
        "enable_outgoing_utp": False, "enable_incoming_utp": False,
        "out_enc_policy": 2, "in_enc_policy": 2,  # plain only
        "allow_multiple_connections_per_ip": True,
        "announce_to_all_tiers": True,
        "alert_mask": lt.alert.category_t.status_notification | lt.alert.category_t.error_notification
        | lt.alert.category_t.dht_notification,
    })
    if dht:  # a first search in an empty table would find nobody, and the next comes a quarter of an hour later
        until(ses, lt.dht_bootstrap_alert)
    if source.startswith("magnet:"):
        p = lt.parse_magnet_uri(source)
    else:
        p = lt.add_torrent_params()
        p.ti = lt.torrent_info(source)
    p.save_path = folder
    p.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    if os.environ.get("SUPER") == "true":
        p.flags |= lt.torrent_flags.super_seeding
    h = ses.add_torrent(p)
    while True:
        ses.wait_for_alert(1000)
        for a in ses.pop_alerts():
            print(a, flush=True)
            if isinstance(a, lt.torrent_finished_alert):
                h.flush_cache()  # the alert comes before the last blocks are on disk
            if isinstance(a, lt.cache_flushed_alert):
                print("has everything", flush=True)


def until(ses, kind):
    while True:
        ses.wait_for_alert(1000)
        alerts = ses.pop_alerts()
        print(*alerts, sep="\n", flush=True)
        if any(isinstance(a, kind) for a in alerts):
            return


def create(kind, piece, tracker, data, to):
    fs = lt.file_storage()
    lt.add_files(fs, data)
    flags = lt.create_torrent.v1_only if kind == "v1" else 0  # 0 makes a hybrid
    ct = lt.create_torrent(fs, piece, flags=flags)
    ct.add_tracker(tracker, 0)
    lt.set_piece_hashes(ct, os.path.dirname(data))
    with open(to, "wb") as f:
        f.write(lt.bencode(ct.generate()))


signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
mode, *args = sys.argv[1:]
if mode == "create":
    create(args[0], int(args[1]), *args[2:])
elif mode == "show":
    ti = lt.torrent_info(args[0])
    print(ti.info_hashes().v1, ti.num_pieces())
else:
    share(args[0], int(args[1]), args[2], args[3])
