# dockerd started after flanneld was ready, runs with what the role says, and has left the packet filter alone.
set -eu
at() { systemctl show -p "$2" --value "$1"; }
[ "$(at flanneld.service ActiveEnterTimestampMonotonic)" -lt "$(at docker.service ExecMainStartTimestampMonotonic)" ]
export DOCKER_CONFIG=/run/nodelith-lab/docker
docker info --format '{{.Driver}} {{.CgroupDriver}} {{.CgroupVersion}} {{.LoggingDriver}} {{.DefaultRuntime}}' | grep -x 'overlay2 systemd 2 local runc'
docker info --format '{{.SecurityOptions}}' | grep 'name=apparmor.*name=seccomp,profile=builtin.*name=cgroupns'
[ "$(stat -c '%a %U %G' /run/docker.sock)" = '660 root docker' ]
if ss --no-header --listening --tcp --udp --processes | grep -E 'dockerd|containerd'; then exit 1; fi
tr '\0' '\n' <"/proc/$(at docker.service MainPID)/cmdline" | grep -x -- "--bip=$(sed -n 's/^FLANNEL_SUBNET=//p' /run/flannel/subnet.env)"

[ "$(cat /proc/sys/net/ipv4/ip_forward)" = 1 ]
rules=$(nft list ruleset)
case $rules in *DOCKER* | *docker0*) echo "rules of Docker's: $rules"; exit 1 ;; esac
if echo "$rules" | grep 'hook forward.*policy drop'; then exit 1; fi
echo "$rules" | grep -q 'masquerade' || { echo "nobody masquerades: $rules"; exit 1; }
