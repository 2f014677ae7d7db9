package known

import (
	"fmt"
	"testing"
	"time"
)

func TestWhatIsProvenEnds(t *testing.T) {
	s, now := New[string](), time.Unix(1e9, 0)
	p := s.Print("ann", "secret")
	s.Put(p, "x", now.Add(time.Minute))
	if v, ok := s.Get(p, now); !ok || v != "x" {
		t.Errorf("%q %v", v, ok)
	}
	if _, ok := s.Get(p, now.Add(time.Minute)); ok {
		t.Error("it holds after its time")
	}
	s.Clear()
	if _, ok := s.Get(p, now); ok {
		t.Error("it is not forgotten")
	}
}

func TestPrints(t *testing.T) {
	s := New[int]()
	if first := s.Print("a", "bc"); first != s.Print("a", "bc") {
		t.Error("a secret has two prints")
	}
	if s.Print("ab", "c") == s.Print("a", "bc") {
		t.Error("two secrets have one print")
	}
	if s.Print("a") == New[int]().Print("a") {
		t.Error("a print can be known from elsewhere")
	}
}

func TestWhatIsRememberedIsBounded(t *testing.T) {
	s, now := New[int](), time.Unix(1e9, 0)
	for i := range limit + 100 {
		s.Put(s.Print(fmt.Sprint(i)), i, now.Add(time.Duration(i)*time.Second))
	}
	if len(s.proven) != limit {
		t.Errorf("%d", len(s.proven))
	}
	if _, ok := s.Get(s.Print(fmt.Sprint(limit+99)), now); !ok {
		t.Error("the last is forgotten")
	}
}
