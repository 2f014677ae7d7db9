package main

import (
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"lastro/configs"
)

func TestTheDaemonRemovesUploadsThatNobodyGoesOnWith(t *testing.T) {
	b := newPushBench(t)
	daemon := b.serve(t)
	for _, repo := range []string{"old", "young"} {
		if res, err := http.Post("http://"+b.registry+"/v2/"+repo+"/blobs/uploads/", "", nil); err != nil || res.StatusCode != http.StatusAccepted {
			t.Fatalf("%v, %v", res, err)
		}
	}
	if err := daemon.end(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	session := func(repo string) string {
		t.Helper()
		found, err := filepath.Glob(filepath.Join(b.data(), "registry/docker/registry/v2/repositories", repo, "_uploads/*"))
		if err != nil || len(found) != 1 {
			t.Fatalf("sessions of %s: %v, %v", repo, found, err)
		}
		return found[0]
	}
	old, young, weekAgo := session("old"), session("young"), time.Now().Add(-8*24*time.Hour)
	for _, name := range []string{old, filepath.Join(old, "data")} {
		if err := os.Chtimes(name, weekAgo, weekAgo); err != nil {
			t.Fatal(err)
		}
	}
	// The job has run today. What is due is told by the ledger, and a day is long.
	if err := os.Remove(filepath.Join(b.data(), "ledger.db")); err != nil {
		t.Fatal(err)
	}
	daemon = start(t, b.command(t, "serve", "--log-level", "info"))
	daemon.wait(t, `msg="abandoned uploads removed" job="purge uploads" uploads=1`)
	if _, err := os.Stat(old); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the old one: %v", err)
	}
	if _, err := os.Stat(young); err != nil {
		t.Errorf("the young one: %v", err)
	}
}

func TestUploadsAreLookedAtOnceADay(t *testing.T) {
	now := time.Now()
	for _, job := range (&daemon{}).jobs(&configs.Config{}) {
		if job.Name == jobPurge {
			if next := job.Next(now); !next.Equal(now.Add(24 * time.Hour)) {
				t.Errorf("after %s", next.Sub(now))
			}
			return
		}
	}
	t.Error("never")
}
