package buckettest

import (
	"encoding/xml"
	"fmt"
	"net/http"
	"time"
)

const (
	lockMode  = "X-Amz-Object-Lock-Mode"
	lockUntil = "X-Amz-Object-Lock-Retain-Until-Date"
	version   = "v1" // of everything: what is replaced is gone
)

// LockedUntil is zero for what is not locked.
func (s *Server) LockedUntil(key string) time.Time {
	t, err := time.Parse(time.RFC3339, s.Header(key).Get(lockUntil))
	if err != nil {
		return time.Time{}
	}
	return t
}

// configuration answers what is asked of the bucket itself.
func (s *Server) configuration(w http.ResponseWriter, what string) {
	switch {
	case what == "versioning" && s.Lock:
		fmt.Fprint(w, "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>")
	case what == "versioning":
		fmt.Fprint(w, "<VersioningConfiguration/>")
	case s.Lock:
		fmt.Fprint(w, "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>")
	default:
		refuse(w, 404, "ObjectLockConfigurationNotFoundError")
	}
}

// retain locks an object again.
func (s *Server) retain(w http.ResponseWriter, key string, body []byte) {
	var to struct{ Mode, RetainUntilDate string }
	if err := xml.Unmarshal(body, &to); err != nil {
		refuse(w, 400, "MalformedXML")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o, there := s.objects[key]
	switch old := o.header.Get(lockUntil); {
	case !there:
		refuse(w, 404, "NoSuchKey")
	case to.RetainUntilDate < old:
		refuse(w, 403, "AccessDenied")
	default:
		o.header.Set(lockMode, to.Mode)
		o.header.Set(lockUntil, to.RetainUntilDate)
	}
}

// locked tells whether an object may not be removed yet.
func (s *Server) locked(key string) bool {
	t, err := time.Parse(time.RFC3339, s.objects[key].header.Get(lockUntil))
	return err == nil && s.now().Before(t) && !s.IgnoreLock
}
