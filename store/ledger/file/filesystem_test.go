package file

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// on is a kernel that says that every path is on such a file system.
func on(kind int64, mounts string) where {
	return where{
		statfs: func(_ string, s *unix.Statfs_t) error { s.Type = kind; return nil },
		mounts: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(mounts)), nil },
	}
}

// deviceOf is how mountinfo names the device that a path is on.
func deviceOf(t *testing.T, path string) string {
	t.Helper()
	var s unix.Stat_t
	if err := unix.Stat(path, &s); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d:%d", unix.Major(uint64(s.Dev)), unix.Minor(uint64(s.Dev)))
}

func TestAFileOnTheNetworkIsRefusedBeforeAnythingIsMade(t *testing.T) {
	narrow := func(magic uint32) int64 { return int64(int32(magic)) } // as 32-bit machines say it
	for _, c := range []struct {
		name, fuse, want string
		kind             int64
	}{
		{name: "ext4 is a disk", kind: unix.EXT4_SUPER_MAGIC},
		{name: "xfs is a disk", kind: unix.XFS_SUPER_MAGIC},
		{name: "btrfs is a disk", kind: unix.BTRFS_SUPER_MAGIC},
		{name: "zfs is a disk", kind: 0x2FC12FC1},
		{name: "an overlay is a disk", kind: unix.OVERLAYFS_SUPER_MAGIC},
		{name: "memory is no network", kind: unix.TMPFS_MAGIC},
		{name: "nfs", kind: unix.NFS_SUPER_MAGIC, want: "nfs"},
		{name: "smb 1", kind: unix.SMB_SUPER_MAGIC, want: "smb"},
		{name: "smb 2", kind: unix.SMB2_SUPER_MAGIC, want: "smb"},
		{name: "cifs", kind: unix.CIFS_SUPER_MAGIC, want: "cifs"},
		{name: "cifs where the type is signed", kind: narrow(unix.CIFS_SUPER_MAGIC), want: "cifs"},
		{name: "9p", kind: unix.V9FS_MAGIC, want: "9p"},
		{name: "ceph", kind: unix.CEPH_SUPER_MAGIC, want: "ceph"},
		{name: "lustre", kind: 0x0BD00BD0, want: "lustre"},
		{name: "afs", kind: unix.AFS_SUPER_MAGIC, want: "afs"},
		{name: "sshfs behind FUSE", kind: unix.FUSE_SUPER_MAGIC, fuse: "fuse.sshfs", want: "fuse.sshfs"},
		{name: "glusterfs behind FUSE", kind: unix.FUSE_SUPER_MAGIC, fuse: "fuse.glusterfs", want: "fuse.glusterfs"},
		{name: "a host's folder in a virtual machine", kind: unix.FUSE_SUPER_MAGIC, fuse: "virtiofs", want: "virtiofs"},
		{name: "FUSE that nobody knows", kind: unix.FUSE_SUPER_MAGIC, fuse: "fuse.novel", want: "fuse.novel"},
		{name: "FUSE without a name", kind: unix.FUSE_SUPER_MAGIC, fuse: "fuse", want: "fuse,"},
		{name: "a disk behind FUSE", kind: unix.FUSE_SUPER_MAGIC, fuse: "fuseblk"},
		{name: "ntfs behind FUSE", kind: unix.FUSE_SUPER_MAGIC, fuse: "fuse.ntfs-3g"},
		{name: "an overlay behind FUSE", kind: unix.FUSE_SUPER_MAGIC, fuse: "fuse.fuse-overlayfs"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := testPath(t)
			device := deviceOf(t, filepath.Dir(path))
			s := testSettings()
			s.where = on(c.kind, "21 1 0:999999 / /elsewhere rw - fuse.sshfs host:/ rw\n"+
				"22 1 "+device+" / /mnt\\040x rw,relatime shared:1 master:2 - "+c.fuse+" some:thing rw\n")
			f, err := Open(path, s)
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				f.Close()
				return
			}
			if !errors.Is(err, ErrNetwork) || !strings.Contains(err.Error(), "on "+c.want) || !strings.Contains(err.Error(), "set data:") {
				t.Errorf("got %v, want ErrNetwork that names %s and a way out", err, c.want)
			}
			if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a file was made: %v", err)
			}
		})
	}
}

func TestAFileThatIsOnTheNetworkByItselfIsRefused(t *testing.T) {
	path := filled(t)
	before := content(t, path)
	s := testSettings()
	s.where.statfs = func(p string, s *unix.Statfs_t) error {
		if p == path {
			s.Type = unix.NFS_SUPER_MAGIC
		}
		return nil
	}
	if _, err := Open(path, s); !errors.Is(err, ErrNetwork) {
		t.Errorf("got %v, want ErrNetwork", err)
	}
	if string(before) != string(content(t, path)) {
		t.Error("the file was changed")
	}
}

func TestWhereTheKernelDoesNotSayWhatIsBehindFUSENothingIsMade(t *testing.T) {
	for _, c := range []struct {
		name   string
		mounts func() (io.ReadCloser, error)
		want   string
	}{
		{"a mount that is not listed", on(0, "").mounts, "no mount has the device"},
		{"mounts that cannot be read", func() (io.ReadCloser, error) { return nil, fs.ErrPermission }, "permission denied"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := testSettings()
			s.where = on(unix.FUSE_SUPER_MAGIC, "")
			s.where.mounts = c.mounts
			if _, err := Open(testPath(t), s); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestTheTypeOfARealMountIsFound(t *testing.T) {
	kind, err := where{}.filled().mountType("/proc")
	if err != nil || kind != "proc" {
		t.Errorf("got %q and %v, want proc", kind, err)
	}
}
