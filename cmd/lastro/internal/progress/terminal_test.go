package progress

import (
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal opens a terminal that nobody sits at.
func terminal(t *testing.T) *os.File {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	return slave
}

func TestThePresentWidthOfTheTerminalCounts(t *testing.T) {
	tty := terminal(t)
	b := New(Options{Out: tty, Columns: 80, Now: time.Now})
	defer b.Close()
	for _, want := range []int{120, 33} {
		if err := unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: uint16(want)}); err != nil {
			t.Fatal(err)
		}
		if got := b.width(); got != want {
			t.Errorf("got %d columns, want %d", got, want)
		}
	}
}

func TestAFileThatIsNoTerminalHasTheWidthItWasGiven(t *testing.T) {
	file, err := os.Create(t.TempDir() + "/log")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	b := New(Options{Out: file, Columns: 80, Now: time.Now})
	defer b.Close()
	if got, want := b.width(), 80; got != want {
		t.Errorf("got %d columns, want %d", got, want)
	}
}
