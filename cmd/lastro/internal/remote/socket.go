package remote

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxAddress is what fits into a socket address beside its final zero byte.
const maxAddress = 107

// Listen makes the socket of a data folder. The socket of a daemon that died is
// replaced; when one lives the error is [ErrRunning]. The caller holds the lock
// of the folder: two that make its socket at once are not told apart here.
// Closing the listener removes the socket.
func Listen(data string) (net.Listener, error) {
	l, err := listen(data)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", filepath.Join(data, Socket), err)
	}
	return l, nil
}

func listen(data string) (net.Listener, error) {
	dir, err := filepath.Abs(data)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, Socket)
	if err := vacant(path); err != nil {
		return nil, err
	}
	private := filepath.Join(dir, "."+Socket+".new")
	if err := os.RemoveAll(private); err != nil {
		return nil, err
	}
	if err := os.Mkdir(private, 0o700); err != nil {
		return nil, err
	}
	l, err := bind(filepath.Join(private, Socket), path)
	return l, errors.Join(err, os.RemoveAll(private))
}

// vacant says whether a socket may be put at path.
func vacant(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errors.New("the file there is not a socket: move it away")
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := dialUnix(ctx, path)
	if err == nil {
		return errors.Join(ErrRunning, conn.Close())
	}
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// bind makes a socket in a folder that is closed to others and moves it to
// where it belongs once nobody else may connect to it there either.
func bind(private, path string) (net.Listener, error) {
	address, release, err := shortened(private)
	if err != nil {
		return nil, err
	}
	defer release()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: address, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	info, err := place(private, path)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &socket{UnixListener: l, path: path, info: info}, nil
}

func place(private, path string) (fs.FileInfo, error) {
	if err := os.Chmod(private, 0o600); err != nil {
		return nil, err
	}
	if err := os.Rename(private, path); err != nil {
		return nil, err
	}
	return os.Lstat(path)
}

// socket is a listener that knows where its file lies.
type socket struct {
	*net.UnixListener
	path string
	info fs.FileInfo
}

// Addr is the socket's path.
func (s *socket) Addr() net.Addr { return &net.UnixAddr{Name: s.path, Net: "unix"} }

// Close stops listening and removes the socket, unless another has taken its place.
func (s *socket) Close() error {
	if info, err := os.Lstat(s.path); err == nil && os.SameFile(info, s.info) {
		if err := os.Remove(s.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return errors.Join(err, s.UnixListener.Close())
		}
	}
	return s.UnixListener.Close()
}

// dialUnix connects to a socket at an absolute path of any length.
func dialUnix(ctx context.Context, path string) (net.Conn, error) {
	address, release, err := shortened(path)
	if err != nil {
		return nil, err
	}
	defer release()
	d := net.Dialer{Timeout: patience}
	return d.DialContext(ctx, "unix", address)
}

// shortened is another name for an absolute path, short enough for a socket
// address. It holds until release is called.
func shortened(path string) (address string, release func(), err error) {
	if len(path) <= maxAddress {
		return path, func() {}, nil
	}
	fd, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", nil, &fs.PathError{Op: "open", Path: filepath.Dir(path), Err: err}
	}
	address = filepath.Join("/proc/self/fd", strconv.Itoa(fd), filepath.Base(path))
	return address, func() { _ = unix.Close(fd) }, nil
}

// deadline is when our patience with the other side ends.
func deadline(d time.Duration) time.Time { return time.Now().Add(d) }
