#!/busybox sh
# First program of the machine: moves everything to a tmpfs, because pivot_root(2) and with it every
# sandbox refuses to work on the initial file system.
set -e
/busybox mount -t tmpfs -o size=2g,mode=0755 root /newroot
/busybox cp -a /image/. /newroot/
exec /busybox switch_root /newroot /usr/sbin/clawd-vm-start
