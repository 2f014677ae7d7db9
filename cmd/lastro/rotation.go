package main

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"lastro/cmd/lastro/internal/web"
	"lastro/store/check"
	"lastro/store/ledger"
)

const (
	// mostKept is how many problems of a check the ledger keeps, in words.
	mostKept = 10
	// mostAgain is how much bad content is read again each time.
	mostAgain = 1000
)

// rotation is what the ledger keeps of the daemon's checks: when each part of all
// content was last read, and what is wrong. It outlives restarts, and a run that did
// not end changes nothing of it, so that its part is the next one's.
type rotation struct {
	Since time.Time       `json:"since"`           // the start of the first run
	Parts []time.Time     `json:"parts"`           // when each was read; zero: never
	Again []digest.Digest `json:"again,omitempty"` // content that was bad, and is read every time until it is not

	Ended    time.Time          `json:"ended"`
	Refused  string             `json:"refused,omitempty"` // why nothing was healed
	Problems map[check.Kind]int `json:"problems"`          // that were left
	Worst    []check.Problem    `json:"worst"`             // some of them, without waste
}

// rotationOf is what a job's record says. What does not read is forgotten: then all
// is unread.
func rotationOf(job ledger.Job) (r rotation) {
	if json.Unmarshal(job.Result, &r) != nil {
		return rotation{}
	}
	return r
}

// divided has n parts. Where it had another number, each part is as old as the
// oldest was: its bytes were in any of them.
func (r rotation) divided(n int, now time.Time) rotation {
	if r.Since.IsZero() {
		r.Since = now
	}
	if len(r.Parts) == n {
		r.Parts = slices.Clone(r.Parts)
		return r
	}
	var oldest time.Time
	if len(r.Parts) > 0 {
		oldest = slices.MinFunc(r.Parts, time.Time.Compare)
	}
	r.Parts = slices.Repeat([]time.Time{oldest}, n)
	return r
}

// next is the part that is longest unread, from 1 on.
func (r rotation) next() int {
	next := 0
	for i, t := range r.Parts {
		if t.Before(r.Parts[next]) {
			next = i
		}
	}
	return next + 1
}

// after is the rotation when a run that began at a time has read a part.
func (r rotation) after(part int, began, ended time.Time, report check.Report) rotation {
	r.Parts[part-1], r.Ended, r.Refused = began, ended, report.Refused
	r.Again, r.Worst, r.Problems = nil, []check.Problem{}, map[check.Kind]int{}
	for _, p := range report.Problems {
		if p.Repaired {
			continue
		}
		r.Problems[p.Kind]++
		if isContent(p) && len(r.Again) < mostAgain {
			r.Again = append(r.Again, p.Digest)
		}
		if !p.Kind.Waste() && len(r.Worst) < mostKept {
			r.Worst = append(r.Worst, p)
		}
	}
	return r
}

// isContent reports whether only reading the content shows the problem.
func isContent(p check.Problem) bool {
	return p.Repo == "" && p.Digest != "" && (p.Kind == check.Corrupt || p.Kind == check.Unreadable)
}

// left is how many problems were left that are no waste.
func (r rotation) left() (n int) {
	for kind, count := range r.Problems {
		if !kind.Waste() {
			n += count
		}
	}
	return n
}

// oldest is when what is longest unread was read. What was never read counts from
// the first run on: before it came it was hashed.
func (r rotation) oldest() time.Time {
	if len(r.Parts) == 0 {
		return r.Since
	}
	if t := slices.MinFunc(r.Parts, time.Time.Compare); !t.IsZero() {
		return t
	}
	return r.Since
}

// web is the rotation for the metrics.
func (r rotation) web(lastOK time.Time) web.Check {
	c := web.Check{Ended: r.Ended, Succeeded: lastOK, Oldest: r.oldest(), Problems: map[string]int{}}
	for _, kind := range check.Kinds() {
		c.Problems[string(kind)] = r.Problems[kind]
	}
	return c
}
