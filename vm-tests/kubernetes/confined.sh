# The pod that each worker has is confined by AppArmor; and the node knows the authorities that registries are trusted by.
set -eu
until pid=$(pgrep -x coredns); do sleep 2; done
seen=$(cat "/proc/$pid/attr/current")
[ "$seen" = 'cri-containerd.apparmor.d (enforce)' ] || { echo "CoreDNS is confined by: $seen"; exit 1; }
[ "$(grep -c 'BEGIN CERTIFICATE' /etc/ssl/certs/ca-certificates.crt)" -gt 100 ]
