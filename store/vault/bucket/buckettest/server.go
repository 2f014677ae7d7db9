package buckettest

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Server is a small S3 server in memory that may be told to lie. It knows one bucket
// whatever its name is, and checks no signatures.
type Server struct {
	IgnoreNoneMatch  bool // accepts If-None-Match and overwrites
	IgnoreMatch      bool // accepts If-Match and overwrites
	RefuseConditions bool // knows neither, and says so (501)
	IgnoreChecksum   bool // believes any SHA-256 of what it stores, and repeats it
	HideNew          bool // lists nothing
	Racy             bool // looks, waits for another writer, and writes
	StoreRefused     bool // says that a condition did not hold, and writes
	KeepRemoved      bool // says that it removed, and did not
	IgnoreAsked      bool // stores without the encryption and class that it is asked for
	Lock             bool // has versions and Object Lock
	IgnoreLock       bool // removes what is locked
	// Now is its clock; nil: time.Now.
	Now func() time.Time
	// Ahead is how far it goes before.
	Ahead time.Duration
	// Seen is called for each request; a status above zero is its answer, with a code.
	Seen func(r *http.Request) (status int, code string)

	mu      sync.Mutex
	objects map[string]object
	waiting chan struct{} // a writer who has looked
}

type object struct {
	data   []byte
	header http.Header
	at     time.Time
}

func (o object) etag() string { return fmt.Sprintf("%q", fmt.Sprintf("%x", md5.Sum(o.data))) }

func (s *Server) now() time.Time {
	if s.Now == nil {
		return time.Now().Add(s.Ahead)
	}
	return s.Now().Add(s.Ahead)
}

// Keys is what is stored, in order.
func (s *Server) Keys() (keys []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range s.objects {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// Header is how an object was written.
func (s *Server) Header(key string) http.Header {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.objects[key].header.Clone()
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	if s.Seen != nil {
		if status, code := s.Seen(r); status > 0 {
			refuse(w, status, code)
			return
		}
	}
	_, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch q := r.URL.Query(); {
	case q.Has("versioning"):
		s.configuration(w, "versioning")
	case q.Has("object-lock"):
		s.configuration(w, "object-lock")
	case q.Has("retention"):
		s.retain(w, key, body)
	case q.Has("versions"):
		s.list(w, "ListVersionsResult", "Version", q.Get("prefix"))
	case q.Has("delete"):
		s.remove(w, body)
	case q.Has("list-type"):
		s.list(w, "ListBucketResult", "Contents", q.Get("prefix"))
	case r.Method == http.MethodPut:
		s.put(w, r, key, body)
	default:
		s.get(w, key)
	}
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code><Message>as told</Message></Error>", code)
}

func (s *Server) put(w http.ResponseWriter, r *http.Request, key string, body []byte) {
	sum := sha256.Sum256(body)
	if want := r.Header.Get("X-Amz-Checksum-Sha256"); want != "" && want != base64.StdEncoding.EncodeToString(sum[:]) && !s.IgnoreChecksum {
		refuse(w, 400, "BadDigest")
		return
	}
	if s.RefuseConditions && (r.Header.Get("If-None-Match") != "" || r.Header.Get("If-Match") != "") {
		refuse(w, 501, "NotImplemented")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.allowed(r, key) {
		refuse(w, 412, "PreconditionFailed")
		if s.StoreRefused {
			s.objects[key] = object{body, r.Header.Clone(), s.now()}
		}
		return
	}
	if s.Racy {
		s.meet()
	}
	if r.Header.Get(lockMode) != "" && !s.Lock {
		refuse(w, 400, "InvalidRequest")
		return
	}
	if s.objects == nil {
		s.objects = map[string]object{}
	}
	o := object{body, r.Header.Clone(), s.now()}
	s.objects[key] = o
	w.Header().Set("ETag", o.etag())
	if s.Lock {
		w.Header().Set("X-Amz-Version-Id", version)
	}
}

// meet waits a little, without the lock, for another writer who has looked as well.
func (s *Server) meet() {
	if s.waiting != nil {
		close(s.waiting)
		s.waiting = nil
		return
	}
	mine := make(chan struct{})
	s.waiting = mine
	s.mu.Unlock()
	select {
	case <-mine:
	case <-time.After(20 * time.Millisecond):
	}
	s.mu.Lock()
	if s.waiting == mine {
		s.waiting = nil
	}
}

func (s *Server) allowed(r *http.Request, key string) bool {
	o, there := s.objects[key]
	if r.Header.Get("If-None-Match") == "*" && there && !s.IgnoreNoneMatch {
		return false
	}
	match := r.Header.Get("If-Match")
	return match == "" || s.IgnoreMatch || there && match == o.etag()
}

func (s *Server) get(w http.ResponseWriter, key string) {
	s.mu.Lock()
	o, there := s.objects[key]
	o.header = o.header.Clone()
	s.mu.Unlock()
	if !there {
		refuse(w, 404, "NoSuchKey")
		return
	}
	if s.Lock {
		w.Header().Set("X-Amz-Version-Id", version)
	}
	sum := sha256.Sum256(o.data)
	w.Header().Set("ETag", o.etag())
	w.Header().Set("Last-Modified", o.at.UTC().Format(http.TimeFormat))
	w.Header().Set("Content-Length", fmt.Sprint(len(o.data)))
	w.Header().Set("X-Amz-Checksum-Sha256", base64.StdEncoding.EncodeToString(sum[:]))
	if said := o.header.Get("X-Amz-Checksum-Sha256"); s.IgnoreChecksum && said != "" {
		w.Header().Set("X-Amz-Checksum-Sha256", said)
	}
	for _, asked := range []string{"X-Amz-Server-Side-Encryption", "X-Amz-Storage-Class", lockMode, lockUntil} {
		if v := o.header.Get(asked); v != "" && !s.IgnoreAsked {
			w.Header().Set(asked, v)
		}
	}
	_, _ = w.Write(o.data)
}

func (s *Server) list(w http.ResponseWriter, result, item, prefix string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(w, "<%s>", result)
	for _, key := range slices.Sorted(maps.Keys(s.objects)) {
		if o := s.objects[key]; strings.HasPrefix(key, prefix) && !s.HideNew {
			fmt.Fprintf(w, "<%s><Key>%s</Key><VersionId>%s</VersionId><IsLatest>true</IsLatest><ETag>%s</ETag><Size>%d</Size><LastModified>%s</LastModified></%s>",
				item, key, version, strings.Trim(o.etag(), `"`), len(o.data), o.at.UTC().Format(time.RFC3339), item)
		}
	}
	fmt.Fprintf(w, "</%s>", result)
}

func (s *Server) remove(w http.ResponseWriter, body []byte) {
	var named struct {
		Object []struct{ Key, VersionId string }
	}
	if err := xml.Unmarshal(body, &named); err != nil {
		refuse(w, 400, "MalformedXML")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprint(w, "<DeleteResult>")
	for _, o := range named.Object {
		if s.locked(o.Key) {
			fmt.Fprintf(w, "<Error><Key>%s</Key><VersionId>%s</VersionId><Code>AccessDenied</Code><Message>locked</Message></Error>", o.Key, o.VersionId)
			continue
		}
		if !s.KeepRemoved {
			delete(s.objects, o.Key)
		}
		fmt.Fprintf(w, "<Deleted><Key>%s</Key><VersionId>%s</VersionId></Deleted>", o.Key, o.VersionId)
	}
	fmt.Fprint(w, "</DeleteResult>")
}
