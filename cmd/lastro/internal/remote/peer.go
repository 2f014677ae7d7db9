package remote

import (
	"fmt"
	"io/fs"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// ownUser lets in the daemon's own user and root.
func ownUser(conn net.Conn) error {
	uid, err := peerUser(conn)
	if err != nil {
		return fmt.Errorf("%w: who asks cannot be told: %w", fs.ErrPermission, err)
	}
	if own := os.Geteuid(); uid != 0 && uid != own {
		return fmt.Errorf("%w: the daemon belongs to user %d and you are user %d: become that user, or root", fs.ErrPermission, own, uid)
	}
	return nil
}

// peerUser is the user that the other end of a Unix socket had when it connected.
func peerUser(conn net.Conn) (int, error) {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return 0, fmt.Errorf("%T is not a Unix socket", conn)
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var failure error
	err = raw.Control(func(fd uintptr) {
		cred, failure = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err == nil {
		err = failure
	}
	if err != nil {
		return 0, err
	}
	return int(cred.Uid), nil
}
