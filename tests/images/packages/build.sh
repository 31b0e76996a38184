#!/bin/sh
# Builds the repository of packages that the fake-root tests install. usage: build.sh DIRECTORY; needs dpkg-dev and rpm
set -eu
out=$1; here=$(cd "$(dirname "$0")" && pwd); work=$(mktemp -d)
mkdir -p "$out"; cd "$work"

# A library that the other needs: what a daemon's package does, with an account, owners and a set-ID program.
mkdir -p first/DEBIAN first/usr/bin first/usr/share/udt-first first/etc/udt-first
printf 'Package: udt-first\nVersion: 1.0\nArchitecture: all\nMaintainer: none <none@example.org>\nDescription: account and owners\n' \
  >first/DEBIAN/control
cat >first/DEBIAN/postinst <<'POST'
#!/bin/sh
set -e
getent group udt >/dev/null || groupadd --system --gid 451 udt
getent passwd udt >/dev/null || useradd --system --uid 451 --gid udt --home-dir /var/lib/udt --create-home --shell /bin/sh udt
chown -R udt:udt /usr/share/udt-first
chown root:udt /etc/udt-first/secret && chmod 0640 /etc/udt-first/secret
[ -p /usr/share/udt-first/pipe ] || mknod /usr/share/udt-first/pipe p; chown udt /usr/share/udt-first/pipe
chown root:udt /usr/bin/udt-first && chmod 2755 /usr/bin/udt-first
echo "first: $(stat -c '%U:%G %a' /usr/share/udt-first/data /etc/udt-first/secret /usr/bin/udt-first | tr '\n' ' ')"
POST
printf '#!/bin/sh\necho first runs\n' >first/usr/bin/udt-first
echo secret >first/etc/udt-first/secret; echo /etc/udt-first/secret >first/DEBIAN/conffiles
echo data >first/usr/share/udt-first/data
# One that needs it, with a trigger-like postinst and many small files.
mkdir -p second/DEBIAN second/usr/share/udt-second
printf 'Package: udt-second\nVersion: 2.0\nArchitecture: all\nDepends: udt-first\nMaintainer: none <none@example.org>\nDescription: needs the first\n' \
  >second/DEBIAN/control
printf '#!/bin/sh\nset -e\nudt-first\nldconfig\nupdate-alternatives --install /usr/bin/udt udt /usr/bin/udt-first 10\n' >second/DEBIAN/postinst
for n in $(seq 1 300); do echo "$n" >"second/usr/share/udt-second/$n"; done
ln second/usr/share/udt-second/1 second/usr/share/udt-second/one; ln -s 2 second/usr/share/udt-second/two
chmod 755 */DEBIAN/postinst first/usr/bin/udt-first
for package in first second; do dpkg-deb --root-owner-group --build -Zgzip "$package" "$out/udt-$package.deb" >/dev/null; done
(cd "$out" && dpkg-scanpackages --multiversion . >Packages 2>/dev/null)

# An RPM with owners, set-ID bits and capabilities' relatives.
cat >udt.spec <<'SPEC'
Name: udt
Version: 1
Release: 1
Summary: owners and set-ID programs
License: none
BuildArch: noarch
%description
Owners and set-ID programs.
%install
mkdir -p %{buildroot}/opt/udt/bin %{buildroot}/opt/udt/data
printf '#!/bin/sh\necho rpm runs\n' >%{buildroot}/opt/udt/bin/run
echo data >%{buildroot}/opt/udt/data/file
ln -s file %{buildroot}/opt/udt/data/link
%post
echo "post $1: $(id -u) $(stat -c '%%U:%%G %%a' /opt/udt/bin/run)"
%preun
echo "preun $1"
%files
%attr(4755, root, daemon) /opt/udt/bin/run
%attr(0640, daemon, daemon) /opt/udt/data/file
/opt/udt/data/link
%dir %attr(0750, root, daemon) /opt/udt/data
SPEC
# It tells of a program that it looks for and does not need.
rpmbuild --quiet -bb --define "_topdir $work/rpm" udt.spec 2>"$work/said" || { cat "$work/said" >&2; exit 1; }
cp "$work"/rpm/RPMS/noarch/udt-1-1.noarch.rpm "$out/udt.rpm"
rm -rf "$work"
