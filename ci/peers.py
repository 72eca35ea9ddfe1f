"""Other builders on the packages that a spec's lock names, for ci/bench. They take them from a local archive, so that
none waits for a network, and none unpacks what another has. Each needs root; none makes the kernel image or the qcow2
file.
"""
import hashlib
import os
import re
import shutil
import subprocess

# What mkosi puts into every Debian image, asked for or not.
MORE = ("?priority(required)", "apt", "ca-certificates", "libpam-systemd", "systemd-sysv")
SUITE = "trixie"
END = "mkfs.erofs + veritysetup"


def sources(spec):
    """Lines of sources.list for the suites of a spec, from the mirrors that this host's apt uses."""
    asked = subprocess.run(["apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)", "Created-By: Packages"],
                           check=True, capture_output=True, text=True).stdout
    mirrors = {}
    for line in asked.splitlines():
        mirrors.setdefault(*line.split(" ", 1))
    suites = re.search(r'^suites = \[(.*)\]', spec.read_text(), re.M)[1].replace('"', "").split(", ")
    suites = [suite for suite in suites if not suite.endswith("-backports")]
    of = lambda suite: mirrors.get("Debian-Security" if suite.endswith("-security") else "Debian", "")
    if not all(map(of, suites)):
        raise OSError("this host's apt names no mirror of Debian and of its security archive")
    return [f"deb [trusted=yes] {of(suite)} {suite} main" for suite in suites]


def packages(spec):
    """Names of the packages of a spec's image."""
    tables = spec.with_suffix(".lock").read_text().split("\n[[")
    names = {line.split('"')[1] for table in tables if table.startswith("package]]") and '"image"' in table
             for line in table.splitlines() if line.startswith("name = ")}
    # The kernel by the name that does not change.
    return sorted(name for name in names if not re.match(r"linux-image-\d", name))


def archive(spec, names, work):
    """A Debian archive in `work` of the image's packages and what they depend on, downloaded by a private apt."""
    apt, made = work / "apt", work / "archive"
    index = made / f"dists/{SUITE}/main/binary-amd64/Packages"
    for directory in (apt / "lists/partial", apt / "cache/archives/partial", made / "pool", index.parent):
        directory.mkdir(parents=True)
    (apt / "status").touch()
    (apt / "sources.list").write_text("\n".join(sources(spec)) + "\n")
    (apt / "conf").write_text(
        f'Dir::Etc "{apt}"; Dir::Etc::SourceParts "/dev/null"; Dir::Etc::Parts "/dev/null";'
        f'Dir::State "{apt}"; Dir::State::Status "{apt}/status"; Dir::Cache "{apt}/cache"; APT::Sandbox::User "root";'
        'Dir::Etc::PreferencesParts "/dev/null"; APT::Install-Recommends "false"; Acquire::Languages "none";')
    for words in (["update"], ["--yes", "--download-only", "install", *names, *MORE]):
        # No key is needed for what is only measured; apt says so each time.
        subprocess.run(["apt-get", "-qq", *words], check=True, capture_output=True,
                       env={**os.environ, "APT_CONFIG": str(apt / "conf")})
    for deb in (apt / "cache/archives").glob("*.deb"):
        shutil.move(deb, made / "pool")
    listed = subprocess.run(["dpkg-scanpackages", "--multiversion", "pool"], cwd=made, check=True,
                            capture_output=True).stdout
    index.write_bytes(listed)
    # debootstrap loses the last line.
    (made / f"dists/{SUITE}/Release").write_text(
        f"Suite: {SUITE}\nCodename: {SUITE}\nDate: Thu, 01 Jan 2026 00:00:00 UTC\nArchitectures: amd64\nSHA256:\n"
        f" {hashlib.sha256(listed).hexdigest()} {len(listed)} main/binary-amd64/Packages\nComponents: main\n")
    return made


def seal(store):
    """A shell command by which a directory `root` becomes an EROFS image and its tree of hashes: the end of every row.
    The tools are those that ci/oracles has put into the store, not the host's, which may know no zstd and no threads."""
    found = next(store.glob("tools/*/usr/bin/mkfs.erofs"), None)
    if found is None:
        return None
    lib = found.parents[1] / "lib/x86_64-linux-gnu"
    run = f"{lib}/ld-linux-x86-64.so.2 --library-path {lib} {found.parents[1]}"
    return (f"rm -f root.erofs && {run}/bin/mkfs.erofs --quiet -zzstd,3 -C131072 -T1 root.erofs root "
            f"&& {run}/sbin/veritysetup format root.erofs verity")


def mmdebstrap(names, made, _work, end):
    """Rows of mmdebstrap: nothing is kept, and the unpacked root is kept."""
    # What maintainer scripts ask for is in the essential packages, which an image of ours can do without.
    install = (f"mmdebstrap --quiet --variant=essential --mode=root --include={','.join(names)} '' root "
               f"'deb [trusted=yes] copy:{made} {SUITE} main'")
    return {
        f"mmdebstrap + {END}": ("", f"rm -rf root && {install} && {end}"),
        f"{END} of the root that is there, one file changed": ("", f"date +%N >root/etc/changed && {end}"),
    }


def mkosi(names, made, work, end):
    """Rows of mkosi: from nothing, and from its cache."""
    packages_of = "\n         ".join(names)
    for of in ("mkosi", "mkosi-kept"):
        (work / of / "mkosi.extra/etc").mkdir(parents=True)
        # Its own squashfs knows no cache, and its partitions need more of loop devices than every kernel does. Without a
        # running systemd, nspawn can make no scope.
        (work / of / "mkosi.default").write_text(
            f"[Distribution]\nDistribution=debian\nRelease={SUITE}\nLocalMirror=file://{made}\nRepositoryKeyCheck=no\n"
            f"[Output]\nFormat=directory\nOutput=root\n[Content]\nPackages={packages_of}\n[Host]\nNspawnKeepUnit=yes\n")
    version = subprocess.run(["mkosi", "--version"], capture_output=True, text=True).stdout.split()[-1]
    # --force would remove its cache; where there is no build script, it never sees that the cache is complete.
    kept = ("cd mkosi-kept && rm -rf root root.manifest && mkdir -p root.cache-pre-dev "
            f"&& date +%N >mkosi.extra/etc/changed && mkosi --incremental build && {end}")
    return {
        f"mkosi {version} + {END}": ("", f"cd mkosi && mkosi --force --force build && {end}"),
        f"mkosi {version} --incremental + {END}, one file changed": (kept, kept),
    }


# A builder's tools, the Debian packages that have them, and its rows.
BUILDERS = {
    "mmdebstrap": ({"mmdebstrap": "mmdebstrap"}, mmdebstrap),
    "mkosi": ({"mkosi": "mkosi", "debootstrap": "debootstrap", "systemd-nspawn": "systemd-container"}, mkosi),
}


def missing(tools):
    """The Debian packages of those tools that this host does not have."""
    return " ".join(sorted({package for tool, package in tools.items() if not shutil.which(tool)}))


def builders(spec, store, work, say):
    """Row → shell commands that are run in `work`: one before all (or none), and the one that is measured."""
    if os.geteuid() != 0:
        say("peers: left out, because they need root")
        return {}
    if lacks := missing({"dpkg-scanpackages": "dpkg-dev"}):
        say(f"peers: left out, because these Debian packages are not installed: {lacks}")
        return {}
    end = seal(store)
    if end is None:
        say("peers: left out, because no mkfs.erofs is in the store: run ci/oracles once")
        return {}
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    names = packages(spec)
    made, rows = archive(spec, names, work), {}
    for name, (tools, of) in BUILDERS.items():
        if lacks := missing(tools):
            say(f"{name}: left out, because these Debian packages are not installed: {lacks}")
        else:
            rows.update(of(names, made, work, end))
    return rows
