package htpasswd

import (
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// hash has the form of bcrypt's, and costs nothing.
func hash(password string) string {
	sum := sha512.Sum512([]byte(password))
	return "$2y$10$" + base64.NewEncoding("./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789").EncodeToString(sum[:])[:53]
}

// comparing counts comparisons, which take as long as they are told.
type comparing struct {
	count, running, most atomic.Int32
	takes                time.Duration
}

func (c *comparing) compare(h, password []byte) error {
	c.count.Add(1)
	if n := c.running.Add(1); n > c.most.Load() {
		c.most.Store(n)
	}
	defer c.running.Add(-1)
	time.Sleep(c.takes)
	if hash(string(password)) != string(h) {
		return errors.New("wrong")
	}
	return nil
}

type fixture struct {
	*Checker
	comparing
	path string
	log  bytes.Buffer
}

func opened(t *testing.T, text string) *fixture {
	t.Helper()
	f := &fixture{path: filepath.Join(t.TempDir(), "users")}
	f.write(t, text)
	var err error
	if f.Checker, err = Open(f.path, Options{Log: slog.New(slog.NewTextHandler(&f.log, nil)), Now: time.Now, Compare: f.compare}); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fixture) write(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(f.path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(f.path+".new", f.path); err != nil {
		t.Fatal(err)
	}
}

var here, there = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")

func (f *fixture) try(t *testing.T, addr netip.Addr, name, password, want string) {
	t.Helper()
	got := "in"
	err := f.Check(t.Context(), addr, name, password)
	if later, ok := errors.AsType[*LaterError](err); ok {
		got = fmt.Sprintf("in %s", later.After)
	} else if errors.Is(err, ErrWrong) {
		got = "wrong"
	} else if err != nil {
		got = err.Error()
	}
	if got != want {
		t.Errorf("%s as %q: got %q, want %q", addr, name, got, want)
	}
}

func TestAFileIsReadStrictly(t *testing.T) {
	good := hash("x")
	for _, c := range []struct{ name, text, want string }{
		{"users", "ann:" + good + "\nbob:" + good + "\n", ""},
		{"comments, blank lines and other line ends", "# users\r\n\r\nann:" + good + "\r\n", ""},
		{"nothing", "", ""},
		{"a hash of another kind, and where", "ann:" + good + "\nbob:$apr1$x$yyyy", `f:2: the hash of "bob" is not of bcrypt (htpasswd -B makes one)`},
		{"a password in clear is not told", "bob:hunter2", `f:1: the hash of "bob" is not of bcrypt (htpasswd -B makes one)`},
		{"a line that is a password is not told", "hunter2", `f:1: is not a line of the form name:hash`},
		{"a user twice", "ann:" + good + "\nann:" + good, `f:2: the user "ann" is there twice`},
		{"a hash that costs minutes", "ann:" + strings.Replace(good, "$10$", "$20$", 1), `f:1: the hash of "ann" has cost 20, which is not between 4 and 15 (htpasswd -B -C 10 makes one)`},
		{"a name that means all", "*:" + good, `f:1: "*" is not a user's name`},
		{"all faults at once", "a\nb", "f:1: is not a line of the form name:hash\nf:2: is not a line of the form name:hash"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := parse("f", []byte(c.text))
			if got := fmt.Sprint(err); got != c.want && (err != nil || c.want != "") {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestARightPasswordIsComparedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := opened(t, "ann:"+hash("a"))
		f.takes = time.Second
		var wg sync.WaitGroup
		for range 20 { // more than may fail at once
			wg.Go(func() { f.try(t, here, "ann", "a", "in") })
		}
		wg.Wait()
		f.try(t, here, "ann", "a", "in")
		if n := f.count.Load(); n != 1 {
			t.Errorf("compared %d times", n)
		}
		time.Sleep(ttl)
		f.try(t, here, "ann", "a", "in")
		if n := f.count.Load(); n != 2 {
			t.Errorf("compared %d times after its time", n)
		}
	})
}

func TestAnUnknownUserCostsWhatAKnownOneDoes(t *testing.T) {
	f := opened(t, "ann:"+hash("a"))
	f.try(t, here, "bob", "a", "wrong") // right for ann
	f.try(t, here, "bob", "b", "wrong")
	f.try(t, here, "ann", "b", "wrong")
	if n := f.count.Load(); n != 3 {
		t.Errorf("compared %d times, want 3", n)
	}
	empty := opened(t, "")
	empty.try(t, here, "ann", "", "wrong")
}

func TestAChangedFileCountsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := opened(t, "ann:"+hash("a"))
		f.try(t, here, "ann", "a", "in")
		token := f.Token("ann", time.Hour)
		f.write(t, "ann:"+hash("b"))
		time.Sleep(3 * time.Second)
		f.try(t, here, "ann", "a", "wrong")
		f.try(t, here, "ann", "b", "in")
		if name, ok := f.Owner(token); ok {
			t.Errorf("a token outlives its password: %s", name)
		}
		f.write(t, "ann:"+hash("c"))
		f.Reload()
		f.try(t, here, "ann", "c", "in")
	})
}

func TestAWrongFileKeepsTheUsersAndIsReportedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := opened(t, "ann:"+hash("a"))
		f.write(t, "ann:hunter2")
		for range 5 {
			time.Sleep(3 * time.Second)
			f.try(t, here, "ann", "a", "in")
		}
		if n := strings.Count(f.log.String(), "users not read"); n != 1 || strings.Contains(f.log.String(), "hunter2") {
			t.Errorf("log: %s", &f.log)
		}
		f.write(t, "ann:"+hash("b"))
		time.Sleep(3 * time.Second)
		f.try(t, here, "ann", "b", "in")
	})
}

func TestWhoGuessesIsSlowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := opened(t, "ann:"+hash("a")+"\nbob:"+hash("b")+"\ncat:"+hash("c"))
		f.try(t, here, "ann", "a", "in")
		f.try(t, here, "bob", "b", "in")
		for range 5 {
			f.try(t, here, "ann", "x", "wrong")
		}
		f.try(t, here, "ann", "x", "in 10s")
		f.try(t, here, "ann", "y", "in 10s")
		f.try(t, here, "ann", "a", "in") // it is remembered
		for i := range 15 {
			f.try(t, here, fmt.Sprint("u", i), "x", "wrong")
		}
		f.try(t, here, "u99", "x", "in 3s")
		f.try(t, here, "cat", "c", "in 3s")
		time.Sleep(ttl) // nothing is remembered, and all is forgiven
		for i := range 20 {
			f.try(t, here, fmt.Sprint("u", i), "x", "wrong")
		}
		f.try(t, here, "cat", "c", "in 3s")
		f.try(t, here, "bob", "b", "in") // who was here before is not kept out
		f.try(t, there, "cat", "c", "in")
		time.Sleep(3 * time.Second)
		f.try(t, here, "cat", "c", "in")
	})
}

func TestOneNameGuessedFromEverywhereIsSlowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := opened(t, "ann:"+hash("a"))
		f.try(t, here, "ann", "a", "in")
		for i := range 50 {
			f.try(t, netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), "ann", "x", "wrong")
		}
		f.try(t, there, "ann", "x", "in 1s")
		f.write(t, "ann:"+hash("a")+"\n") // nothing is remembered
		f.Reload()
		f.try(t, here, "ann", "a", "in")
	})
}

func TestANetworkOfIPv6IsOneAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := opened(t, "ann:"+hash("a"))
		for i := range 20 {
			f.try(t, netip.MustParseAddr(fmt.Sprintf("2001:db8::%d", i)), fmt.Sprint(i), "x", "wrong")
		}
		f.try(t, netip.MustParseAddr("2001:db8::ffff"), "z", "x", "in 3s")
		f.try(t, netip.MustParseAddr("2001:db8:0:1::1"), "z", "x", "wrong")
	})
}

func TestAFloodOfLoginsComparesFewAtOnceAndEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := opened(t, "ann:"+hash("a"))
		f.takes = time.Second
		var busy atomic.Int32
		var wg sync.WaitGroup
		for i := range 500 {
			wg.Go(func() {
				err := f.Check(t.Context(), netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), fmt.Sprint(i), "x")
				if later, ok := errors.AsType[*LaterError](err); ok && later.Busy {
					busy.Add(1)
				}
			})
		}
		begun := time.Now()
		wg.Wait()
		if most := int(f.most.Load()); most > max(1, runtime.GOMAXPROCS(0)/2) {
			t.Errorf("%d at once", most)
		}
		if n := busy.Load(); n < 500-queue-20 || time.Since(begun) > patience+2*time.Second {
			t.Errorf("%d were refused, after %s", n, time.Since(begun))
		}
	})
}

func TestWhoGoesAwayDoesNotWait(t *testing.T) {
	f := opened(t, "ann:"+hash("a"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f.takes = time.Millisecond
	if err := f.Check(ctx, here, "ann", "b"); !errors.Is(err, context.Canceled) && !errors.Is(err, ErrWrong) {
		t.Error(err)
	}
}

func TestWhatIsCountedIsBounded(t *testing.T) {
	s := newSlow()
	now := time.Unix(1e9, 0)
	worst := pair{here, "worst"}
	for range 5 {
		s.take(worst, now)
	}
	for i := range 2 * maxBuckets {
		p := pair{netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), fmt.Sprint(i)}
		if s.take(p, now); i%2 == 0 {
			s.succeed(p, now)
		}
	}
	if len(s.pairs.m) > maxBuckets || len(s.addresses.m) > maxBuckets || len(s.names.m) > maxBuckets || len(s.trusted) > maxBuckets {
		t.Errorf("%d %d %d %d", len(s.pairs.m), len(s.addresses.m), len(s.names.m), len(s.trusted))
	}
	if s.pairs.wait(worst, now) == 0 {
		t.Error("who failed most was forgotten")
	}
}

func TestTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := opened(t, "ann:"+hash("a")+"\nbob:"+hash("b"))
		ann, nobody := f.Token("ann", time.Minute), f.Token("stranger", time.Minute)
		for name, c := range map[string]struct {
			token, owner string
			ok           bool
		}{
			"a user's": {ann, "ann", true}, "nobody's": {nobody, "", true}, "empty": {"", "", false}, "of no content": {prefix, "", false},
			"another process's": {opened(t, "ann:"+hash("a")).Token("ann", time.Minute), "", false},
			"of bad text":       {ann + "!", "", false}, "cut": {ann[:len(ann)-2], "", false}, "longer": {ann + "YQ", "", false},
			"nobody's, with a name": {nobody + "YW5u", "", false},
		} {
			if owner, ok := f.Owner(c.token); ok != c.ok || ok && owner != c.owner {
				t.Errorf("%s: %q %v", name, owner, ok)
			}
		}
		time.Sleep(time.Minute)
		if _, ok := f.Owner(ann); ok {
			t.Error("a token does not end")
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add("ann:" + hash("a") + "\n#\nb:c")
	f.Fuzz(func(t *testing.T, text string) {
		u, err := parse("f", []byte(text))
		if err != nil {
			return
		}
		for name, h := range u.hashes {
			if checkName(name) != nil || !bcryptText.Match(h) {
				t.Errorf("%q %q", name, h)
			}
		}
	})
}

func FuzzOwner(f *testing.F) {
	path := filepath.Join(f.TempDir(), "users")
	if err := os.WriteFile(path, []byte("ann:"+hash("a")), 0o600); err != nil {
		f.Fatal(err)
	}
	c, err := Open(path, Options{Log: slog.New(slog.DiscardHandler), Now: time.Now, Compare: new(comparing).compare})
	if err != nil {
		f.Fatal(err)
	}
	made := c.Token("ann", time.Hour)
	f.Add(made[:len(made)-1])
	f.Add(prefix + strings.Repeat("A", 60))
	f.Fuzz(func(t *testing.T, token string) {
		if name, ok := c.Owner(token); ok {
			t.Errorf("%q is taken as one of %q", token, name)
		}
	})
}
