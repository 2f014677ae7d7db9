// Package upstream is one remote registry that we read: auth, limits, retries,
// resumable reads.
package upstream
