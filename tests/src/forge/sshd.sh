# Runs Debian's sshd with accounts of its own: $1 is the forge's folder. The caller has made a mount
# namespace for it.
set -e
mount -t tmpfs -o mode=0755 run /run
mkdir /run/sshd
for name in passwd group shadow; do
    # A machine without shadowed passwords has none to hide.
    [ ! -e "/etc/$name" ] || mount --bind "$1/$name" "/etc/$name"
done
exec /usr/sbin/sshd -D -e -f "$1/sshd_config"
