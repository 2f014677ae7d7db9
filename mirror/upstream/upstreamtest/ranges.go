package upstreamtest

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// NoRange sends the whole where a part is asked for.
func NoRange(s Strike) Fault {
	return s.onRange(func(next http.Handler, w http.ResponseWriter, r *http.Request, _ span) {
		spoilt(r)
		r.Header.Del("Range")
		next.ServeHTTP(w, r)
	})
}

// OtherRange sends a part that begins shift bytes away from what was asked for.
func OtherRange(s Strike, shift int64) Fault {
	return s.onRange(func(next http.Handler, w http.ResponseWriter, r *http.Request, asked span) {
		spoilt(r)
		asked.first = min(max(0, asked.first+shift), asked.last)
		r.Header.Set("Range", asked.String())
		next.ServeHTTP(w, r)
	})
}

// RefusedRange answers 416 where a part is asked for.
func RefusedRange(s Strike) Fault {
	return s.onRange(func(_ http.Handler, w http.ResponseWriter, r *http.Request, _ span) {
		spoilt(r)
		refuse(w, http.StatusRequestedRangeNotSatisfiable, "RANGE_INVALID", "invalid content range")
	})
}

// span is a closed range of bytes.
type span struct{ first, last int64 }

func (s span) String() string { return fmt.Sprintf("bytes=%d-%d", s.first, s.last) }

func parseSpan(text string) (s span, ok bool) {
	first, last, ok := strings.Cut(strings.TrimPrefix(text, "bytes="), "-")
	if !ok {
		return s, false
	}
	var err1, err2 error
	s.first, err1 = strconv.ParseInt(first, 10, 64)
	s.last, err2 = strconv.ParseInt(last, 10, 64)
	return s, err1 == nil && err2 == nil
}

// onRange is on for requests of a part. Others are not counted.
func (s Strike) onRange(struck func(http.Handler, http.ResponseWriter, *http.Request, span)) Fault {
	return func(next http.Handler) http.Handler {
		part := s.on(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
			asked, _ := parseSpan(r.Header.Get("Range"))
			struck(next, w, r.Clone(r.Context()), asked)
		})(next)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, ok := parseSpan(r.Header.Get("Range")); ok {
				part.ServeHTTP(w, r)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}
