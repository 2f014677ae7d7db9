package main

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"lastro/configs"
)

func TestAPasswordThatChangedInItsFileIsUsedWithoutAReload(t *testing.T) {
	want := "old"
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, pw, _ := r.BasicAuth(); pw != want {
			w.Header().Set("WWW-Authenticate", "Basic")
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = io.WriteString(w, `{"tags":["v1"]}`)
	}))
	defer srv.Close()
	at, dir := strings.TrimPrefix(srv.URL, "http://"), t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	config := fmt.Sprintf("data: %s/data\nupstreams:\n  %s: {plain-http: true, credentials: {username: me, password: '${file:password}'}}\n", dir, at)
	write("lastro.yaml", config)
	write("password", "old\n")
	cfg, err := configs.Load(filepath.Join(dir, "lastro.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := openSite(cfg, slog.New(slog.DiscardHandler), host{now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	tags := func() error {
		up, err := s.source(at)
		if err != nil {
			t.Fatal(err)
		}
		for _, err := range up.Tags(t.Context(), "a") {
			if err != nil {
				return err
			}
		}
		return nil
	}
	if err := tags(); err != nil {
		t.Fatal(err)
	}
	want = "new"
	if err := tags(); err == nil {
		t.Fatal("the old password is still good")
	}
	write("password", "new\n")
	write("lastro.yaml", config+"mirror: [{from: a}]\n")
	if err := tags(); err != nil {
		t.Error(err)
	}
	if s.cfg() != cfg {
		t.Error("the rest of the configuration was swapped, too")
	}
	write("lastro.yaml", "no: such key\n")
	want = "newer"
	if err := tags(); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("with a file that cannot be read: %v", err)
	}
	now := s.upstreamsNow()
	if len(now) != 1 || now[0].Host != at || now[0].Limited || now[0].Requests["ok"] != 2 || now[0].Requests["refused"] != 2 {
		t.Errorf("got %+v", now)
	}
}

func TestAMirrorsPasswordThatChangedInItsFileIsUsedWithoutAReload(t *testing.T) {
	const manifest = "{}"
	want := "old"
	second := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, pw, _ := r.BasicAuth(); pw != want {
			w.Header().Set("WWW-Authenticate", "Basic")
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
		_, _ = io.WriteString(w, manifest)
	}))
	defer second.Close()
	first := httptest.NewServer(http.NotFoundHandler())
	defer first.Close()
	at, dir := strings.TrimPrefix(first.URL, "http://"), t.TempDir()
	config := fmt.Sprintf("data: %s/data\nupstreams:\n  %s: {plain-http: true, credentials: none, mirrors: [{url: %q, credentials: {username: me, password: '${file:password}'}}]}\n", dir, at, second.URL)
	for name, text := range map[string]string{"lastro.yaml": config, "password": "old\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := configs.Load(filepath.Join(dir, "lastro.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := openSite(cfg, slog.New(slog.DiscardHandler), host{now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	want = "new"
	if err := os.WriteFile(filepath.Join(dir, "password"), []byte("new\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	up, err := s.source(at)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := up.Manifest(t.Context(), "a", digest.FromString(manifest).String()); err != nil {
		t.Error(err)
	}
}
