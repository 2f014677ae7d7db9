package remote

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

func answering(t *testing.T, data string) bool {
	t.Helper()
	conn, err := dialUnix(t.Context(), filepath.Join(data, Socket))
	if err != nil {
		return false
	}
	return conn.Close() == nil
}

func TestTheSocketIsOpenToItsOwnerOnly(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	data := t.TempDir()
	l, err := Listen(data)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	info, err := os.Lstat(filepath.Join(data, Socket))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := info.Mode(), fs.ModeSocket|0o600; got != want {
		t.Errorf("mode: got %v, want %v", got, want)
	}
	if got, want := l.Addr().String(), filepath.Join(data, Socket); got != want {
		t.Errorf("address: got %s, want %s", got, want)
	}
	entries, err := os.ReadDir(data)
	if err != nil || len(entries) != 1 {
		t.Errorf("the folder has %v, %v; want the socket alone", entries, err)
	}
}

func TestClosingRemovesTheSocket(t *testing.T) {
	data := t.TempDir()
	l, err := Listen(data)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(filepath.Join(data, Socket)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want fs.ErrNotExist", err)
	}
}

// die leaves a data folder as a killed daemon does.
func die(t *testing.T, data string) {
	t.Helper()
	l, err := Listen(data)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.(*socket).UnixListener.Close(); err != nil {
		t.Fatal(err)
	}
	private := filepath.Join(data, "."+Socket+".new")
	if err := os.Mkdir(private, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(private, Socket), nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestADeadDaemonsSocketIsNoDaemonAndIsReplaced(t *testing.T) {
	data := t.TempDir()
	die(t, data)
	if _, err := Dial(t.Context(), data); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("dial: got %v, want fs.ErrNotExist", err)
	}
	l, err := Listen(data)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if !answering(t, data) {
		t.Error("the new socket does not answer")
	}
}

func TestALiveDaemonIsNotReplaced(t *testing.T) {
	data, _ := daemon(t, &Server{Run: func(context.Context, Request, Streams) int { return 0 }})
	l, err := Listen(data)
	if !errors.Is(err, ErrRunning) {
		t.Errorf("got %v, %v, want ErrRunning", l, err)
	}
	if !answering(t, data) {
		t.Error("the first daemon does not answer any more")
	}
}

func TestAFileInTheSocketsPlaceIsKept(t *testing.T) {
	data := t.TempDir()
	path := filepath.Join(data, Socket)
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(data); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("got %v, want a refusal", err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "mine" {
		t.Errorf("the file is now %q, %v", got, err)
	}
}

func TestClosingLeavesASuccessorsSocketAlone(t *testing.T) {
	data := t.TempDir()
	first, err := Listen(data)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(data, Socket)); err != nil {
		t.Fatal(err)
	}
	second, err := Listen(data)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if !answering(t, data) {
		t.Error("closing the first listener removed the second one's socket")
	}
}

func TestDataFoldersWithUnusualPathsWork(t *testing.T) {
	base := t.TempDir()
	t.Chdir(base)
	for _, c := range []struct{ name, data string }{
		{"a relative path", "data"},
		{"a path that looks like an abstract socket", "@data"},
		{"a path of exactly what an address holds", exactly(base, maxAddress)},
		{"a path one longer than an address holds", exactly(base, maxAddress+1)},
		{"a path far longer than an address holds", filepath.Join(base, strings.Repeat("l", 200), strings.Repeat("o", 200))},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := os.MkdirAll(c.data, 0o755); err != nil {
				t.Fatal(err)
			}
			open := openFiles(t)
			l, err := Listen(c.data)
			if err != nil {
				t.Fatal(err)
			}
			if !answering(t, absolute(t, c.data)) {
				t.Error("the socket does not answer")
			}
			if _, err := Listen(c.data); !errors.Is(err, ErrRunning) {
				t.Errorf("a second one: got %v, want ErrRunning", err)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := Dial(t.Context(), c.data); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("after closing: got %v, want fs.ErrNotExist", err)
			}
			if got := openFiles(t); got != open {
				t.Errorf("open files: got %d, want %d", got, open)
			}
		})
	}
}

// exactly makes a data path whose socket path has n bytes.
func exactly(base string, n int) string {
	rest := n - len(base) - len("/") - len("/"+Socket)
	return filepath.Join(base, strings.Repeat("e", rest))
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	abs, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return abs
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// asNobody runs fn on a thread that belongs to another user, and throws the
// thread away.
func asNobody(t *testing.T, fn func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("skipped: only root can become another user")
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		const same, nobody = ^uintptr(0), 65534
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, same, nobody, same); errno != 0 {
			t.Errorf("become another user: %v", errno)
			return
		}
		fn()
	}()
	<-ended
}

func TestAnotherUserIsNotPermitted(t *testing.T) {
	ran := false
	data, _ := daemon(t, &Server{Run: func(context.Context, Request, Streams) int { ran = true; return 0 }})
	open(t, filepath.Dir(data), data)
	asNobody(t, func() {
		if _, err := Dial(t.Context(), data); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("by the mode of the socket: got %v, want fs.ErrPermission", err)
		}
	})
	if err := os.Chmod(filepath.Join(data, Socket), 0o777); err != nil {
		t.Fatal(err)
	}
	asNobody(t, func() {
		_, err := Dial(t.Context(), data)
		if !errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("by the credentials of the connection: got %v, want fs.ErrPermission", err)
		}
		want := "the daemon of " + data + ": permission denied: the daemon belongs to user 0 and you are user 65534: become that user, or root"
		if err != nil && err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	})
	if ran {
		t.Error("a verb ran for another user")
	}
}

// open lets everybody pass through the folders.
func open(t *testing.T, folders ...string) {
	t.Helper()
	for _, f := range folders {
		if err := os.Chmod(f, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAConnectionWithoutCredentialsIsNotPermitted(t *testing.T) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	defer theirs.Close()
	if err := ownUser(ours); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("got %v, want fs.ErrPermission", err)
	}
}
