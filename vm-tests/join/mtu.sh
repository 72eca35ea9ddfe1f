# vxlan takes 50 bytes of the link's MTU.
set -eu
read -r link </run/nodelith/interface
want=$(($(cat "/sys/class/net/$link/mtu") - 50))
[ "$(cat /sys/class/net/flannel.1/mtu)" = "$want" ]
grep -x "FLANNEL_MTU=$want" /run/flannel/subnet.env
grep -q "\"mtu\":$want" /run/cni/net.d/10-podnet.conflist
