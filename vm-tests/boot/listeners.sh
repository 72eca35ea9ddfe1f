# Nothing listens beyond loopback but what the roles declare: `$listeners`, one `protocol port program` a line.
set -eu
seen=$(ss --no-header --numeric --listening --tcp --udp --processes | awk '{ print $1, $5, $7 }' | while read -r protocol local process; do
    host=${local%:*}
    case ${host%%%*} in 127.* | '[::1]') continue ;; esac
    # The DHCP client's own port is bound to the interface, on which only answers come.
    [ "$protocol ${local##*:}" = 'udp 68' ] && continue
    process=${process#*\"}
    echo "$protocol ${local##*:} ${process%%\"*}"
done | sed 's/ $/ kernel/' | sort -u)
undeclared=$(printf '%s\n' "$seen" | grep -vxF -- "${listeners:-none}" || true)
[ -z "$undeclared" ] || { echo "not declared: $undeclared"; exit 1; }
