# A node that was refused has no certificate, no network of pods, and did not join; all else works.
set -eu
[ ! -e /var/lib/nodelith/certificates/flannel/cert.pem ]
[ ! -e /run/flannel/subnet.env ]
[ ! -e /run/cni/net.d/10-podnet.conflist ]
[ ! -e /sys/class/net/flannel.1 ]
[ "$(systemctl show -p ActiveState --value nodelith-joined.target)" != active ]
[ "$(systemctl show -p ActiveState --value nodelith-identity.service)" = active ]
