package file

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrNetwork means that the file is, or would be, on a network file system.
// Nothing was changed.
var ErrNetwork = errors.New("ledger is on a network file system")

// network are the file systems whose files another machine may change. GFS2 and
// OCFS2 are not among them: their locks and maps are the whole cluster's.
var network = map[uint32]string{
	unix.NFS_SUPER_MAGIC:  "nfs",
	unix.SMB_SUPER_MAGIC:  "smb",
	unix.SMB2_SUPER_MAGIC: "smb",
	unix.CIFS_SUPER_MAGIC: "cifs",
	unix.V9FS_MAGIC:       "9p",
	unix.CEPH_SUPER_MAGIC: "ceph",
	unix.AFS_SUPER_MAGIC:  "afs",
	unix.AFS_FS_MAGIC:     "afs",
	unix.CODA_SUPER_MAGIC: "coda",
	0x0BD00BD0:            "lustre",
	0x47504653:            "gpfs",
	0x19830326:            "beegfs",
	0x20030528:            "orangefs",
	0x786F4256:            "vboxsf",
	0xBACBACBC:            "vmhgfs",
	0x7C7C6673:            "prl_fs",
}

// localFUSE are the file systems behind FUSE that keep their files on this
// machine's disks.
var localFUSE = map[string]bool{
	"fuseblk": true, "fuse.ntfs": true, "fuse.ntfs-3g": true, "fuse.exfat": true, "fuse.fuse2fs": true,
	"fuse.ext4": true, "fuse.zfs": true, "fuse.fuse-overlayfs": true, "fuse.bindfs": true, "fuse.mergerfs": true,
	"fuse.shfs": true, "fuse.gocryptfs": true, "fuse.encfs": true, "fuse.cryfs": true,
}

// where asks the kernel where files are. The zero value does.
type where struct {
	statfs func(path string, s *unix.Statfs_t) error
	mounts func() (io.ReadCloser, error)
}

func (w where) filled() where {
	if w.statfs == nil {
		w.statfs = unix.Statfs
	}
	if w.mounts == nil {
		w.mounts = func() (io.ReadCloser, error) { return os.Open("/proc/self/mountinfo") }
	}
	return w
}

// refuseNetwork refuses a path on a network file system. The file itself may be
// a mount, or what a link leads to; what is not there will be in its folder.
func (w where) refuseNetwork(path string) error {
	w = w.filled()
	if _, err := os.Stat(path); err != nil {
		path = filepath.Dir(path)
	}
	var s unix.Statfs_t
	if err := w.statfs(path, &s); err != nil {
		return &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	kind := uint32(s.Type) // signed and of another width elsewhere
	if kind == unix.FUSE_SUPER_MAGIC {
		return w.refuseFUSE(path)
	}
	if name, ok := network[kind]; ok {
		return onNetwork(path, name)
	}
	return nil
}

// refuseFUSE allows what is known to be local. A type that nobody knows is more
// often somebody's bucket or another machine than a disk, and what goes wrong
// there goes wrong silently.
func (w where) refuseFUSE(path string) error {
	kind, err := w.mountType(path)
	if err != nil {
		return fmt.Errorf("%s is behind FUSE, and what is there cannot be told: %w", path, err)
	}
	if localFUSE[kind] {
		return nil
	}
	return onNetwork(path, kind)
}

func onNetwork(path, kind string) error {
	return fmt.Errorf("%w: %s is on %s, where locks, memory maps and synced writes cannot be relied on: set data: to a folder on a local disk (ext4, xfs, btrfs, zfs); backups may go to the network", ErrNetwork, path, kind)
}

// mountType is the type of the mount that path is in, as /proc/self/mountinfo
// names it: the field behind the lone hyphen, in the line of path's device.
func (w where) mountType(path string) (string, error) {
	var s unix.Stat_t
	if err := unix.Stat(path, &s); err != nil {
		return "", &os.PathError{Op: "stat", Path: path, Err: err}
	}
	device := fmt.Sprintf("%d:%d", unix.Major(uint64(s.Dev)), unix.Minor(uint64(s.Dev)))
	mounts, err := w.mounts()
	if err != nil {
		return "", err
	}
	defer mounts.Close()
	lines := bufio.NewScanner(mounts)
	for lines.Scan() {
		mount, file, ok := strings.Cut(lines.Text(), " - ")
		if fields := strings.Fields(mount); ok && len(fields) > 2 && fields[2] == device {
			kind, _, _ := strings.Cut(file, " ")
			return kind, nil
		}
	}
	return "", errors.Join(lines.Err(), fmt.Errorf("no mount has the device %s of %s", device, path))
}
