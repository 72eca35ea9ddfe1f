# Nothing listens beyond loopback but what the roles declare: `$listeners`, one `protocol port program` a line.
set -eu
seen=$(ss --no-header --numeric --listening --tcp --udp --processes | while read -r protocol _ _ _ local _ process; do
    host=${local%:*}
    case ${host%%%*} in 127.* | '[::1]') continue ;; esac
    # The DHCP client's own port is bound to the interface, on which only answers come.
    if [ "$protocol ${local##*:}" = 'udp 68' ]; then continue; fi
    process=${process#*\"}
    echo "$protocol ${local##*:} ${process%%\"*}"
done | sed 's/ $/ kernel/' | sort -u)
undeclared=$(printf '%s\n' "$seen" | grep -vxF -- "${listeners:-none}" || true)
[ -z "$undeclared" ] || { echo "not declared: $undeclared"; exit 1; }
