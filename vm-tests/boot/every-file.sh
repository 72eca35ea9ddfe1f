# What the kernel reads of its root is what the manifest says: every path with mode, owner and link, every file's bytes.
set -eu
export LC_ALL=C
# Without what is mounted over it.
mkdir -p /run/whole-root
mount --bind / /run/whole-root
cd /run/whole-root
seen=$(find . -printf '%y%04m %U:%G %P %l\0' | sort -z | sha256sum)
[ "${seen%% *}" = "$tree" ] || { echo "paths: $seen, not $tree"; exit 1; }
seen=$(find . -type f -printf '%P\0' | xargs -0 sha256sum --zero | sort -z | sha256sum)
[ "${seen%% *}" = "$files" ] || { echo "files: $seen, not $files"; exit 1; }
cd /
umount /run/whole-root
