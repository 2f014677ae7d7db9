package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"

	"lastro/configs"
	"lastro/mirror"
)

// pushRules say which repositories clients may change, as the configuration has it.
type pushRules []pushRule

type pushRule struct {
	match     mirror.Pattern
	immutable []mirror.Pattern
}

func readPushRules(all []configs.Push) (rules pushRules, err error) {
	for _, p := range all {
		var rule pushRule
		if rule.match, err = mirror.ParsePattern(p.Match); err != nil {
			return nil, fmt.Errorf("registry.push: %w", err)
		}
		if rule.immutable, err = readPatterns(p.Immutable); err != nil {
			return nil, fmt.Errorf("registry.push: immutable: %w", err)
		}
		rules = append(rules, rule)
	}
	return rules, nil
}

func readPatterns(texts []string) (patterns []mirror.Pattern, err error) {
	for _, text := range texts {
		p, err := mirror.ParsePattern(text)
		if err != nil {
			return nil, err
		}
		patterns = append(patterns, p)
	}
	return patterns, nil
}

func matches(patterns []mirror.Pattern, text string) bool {
	return slices.ContainsFunc(patterns, func(p mirror.Pattern) bool { return p.Match(text) })
}

// pushable reports whether clients may change a repository.
func (rules pushRules) pushable(repo string) bool {
	return slices.ContainsFunc(rules, func(r pushRule) bool { return r.match.Match(repo) })
}

// immutable reports whether a tag never moves once it is pushed: any rule of the
// repository that says so holds.
func (rules pushRules) immutable(repo, tag string) bool {
	return slices.ContainsFunc(rules, func(r pushRule) bool { return r.match.Match(repo) && matches(r.immutable, tag) })
}

// keptFromDeletes says why a client may not delete a tag, or "".
func (s *site) keptFromDeletes(ctx context.Context, repo, tag string, d digest.Digest) (reason string, err error) {
	if tag != "" && s.served().pushes.immutable(repo, tag) {
		return fmt.Sprintf("tag %s is immutable by registry.push", tag), nil
	}
	if tag == "" {
		return s.keptDigest(ctx, repo, d)
	}
	why, err := s.shield(ctx, repo, tag, d)
	if why == "" {
		return "", err
	}
	return fmt.Sprintf("tag %s is %s", tag, why), nil
}

// shield is the first protection of a tag that has not expired, in words, or "".
func (s *site) shield(ctx context.Context, repo, tag string, d digest.Digest) (string, error) {
	all, err := s.shields(ctx, repo, tag, d)
	if err != nil {
		return "", err
	}
	for _, p := range all {
		if p.Until.IsZero() || s.now().Before(p.Until) {
			return p.Why, nil
		}
	}
	return "", nil
}

// keptDigest says why a manifest must stay, as a part of something if need be.
func (s *site) keptDigest(ctx context.Context, repo string, d digest.Digest) (reason string, err error) {
	p, ok, err := s.protectedWith(ctx, repo, d)
	switch {
	case !ok:
		return "", err
	case p.Digest == d:
		return fmt.Sprintf("%s is %s", d, p), nil
	}
	return fmt.Sprintf("%s belongs to %s, which is %s", d, p.Digest, p), nil
}
