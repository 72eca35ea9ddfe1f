# flanneld is another run of itself and has a lease again. Prints the address that others can ping.
set -eu
[ "$(systemctl show -p InvocationID --value flanneld.service)" != "$run_worker_1" ]
[ "$(systemctl show -p ActiveState --value flanneld.service)" = active ]
[ "$(systemctl show -p ActiveState --value nodelith-cni.service)" = active ]
# Not the pods' gateway: that address is the bridge's, which the first container makes.
ip -o -4 address show dev flannel.1 | sed 's/.* inet //; s|/.*||'
