# The root is the manifest's, read only, checked by dm-verity; nothing in it changes who one is.
set -u
bad=0
wrong() { echo "$*"; bad=1; }

grep -qw "roothash=$root_hash" /proc/cmdline || wrong "the command line names another root: $(cat /proc/cmdline)"
root=$(findmnt -n -o SOURCE /)
status=$(dmsetup status "$root") || wrong "no device-mapper device: $root"
case $status in *' verity V'*) ;; *) wrong "verity is not in state V: $status" ;; esac
for dir in / /etc /usr; do
    if touch "$dir/.nodelith-lab" 2>/dev/null; then wrong "$dir can be written"; fi
done
setuid=$(find / -xdev -type f -perm /6000)
[ -z "$setuid" ] || wrong "setuid or setgid: $setuid"
exit "$bad"
