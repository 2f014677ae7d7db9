package configs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

const (
	maxFile  = 1 << 20
	maxDepth = 32
	maxWidth = 2000
)

// readLimited reads a regular file of at most so many bytes.
func readLimited(path string, most int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // to open a pipe could wait for ever
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(content)) > most {
		err = fmt.Errorf("%s is larger than %d KiB", path, most>>10)
	}
	return content, err
}

// parse makes a tree of the document, or notes why it cannot.
func (d *decoder) parse(content []byte) (root ast.Node) {
	defer func() {
		if recover() != nil { // the library is not proof against all bytes
			d.refuse(0, "", "is not YAML")
			root = nil
		}
	}()
	content = bytes.TrimPrefix(content, []byte("\ufeff"))
	if line, problem := unreadable(content); problem != "" {
		d.refuse(line, "", "%s", problem)
		return nil
	}
	tokens := lexer.Tokenize(string(content))
	if !d.plain(tokens) {
		return nil
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		d.refuseSyntax(err)
		return nil
	}
	return d.only(file)
}

// unreadable says which line has bytes that are no text.
func unreadable(content []byte) (line int, problem string) {
	for text := range bytes.Lines(content) {
		line++
		if !utf8.Valid(text) {
			return line, "is not UTF-8"
		}
		if i := bytes.IndexFunc(text, func(r rune) bool { return r < ' ' && r != '\n' && r != '\r' && r != '\t' || r == 0x7f }); i >= 0 {
			return line, fmt.Sprintf("has a control character, %U", text[i])
		}
		if indent := text[:len(text)-len(bytes.TrimLeft(text, " \t"))]; bytes.ContainsRune(indent, '\t') {
			return line, "is indented with a tab: use spaces"
		}
	}
	return 0, ""
}

// unsupported are the parts of YAML that settings do not need.
var unsupported = map[token.Type]string{
	token.AnchorType:     "anchors (&name) are not supported: write the value again",
	token.AliasType:      "aliases (*name) are not supported: write the value again, or quote a text that begins with *",
	token.MergeKeyType:   "merge keys (<<) are not supported: write the keys again",
	token.TagType:        "tags (!name) are not supported: quote a text that begins with !",
	token.DirectiveType:  "directives (%NAME) are not supported: quote a text that begins with %",
	token.MappingKeyType: "keys that begin with ? are not supported",
}

// plain notes what is not supported, before the parser sees it.
func (d *decoder) plain(tokens token.Tokens) bool {
	ok, size := true, extent{wide: map[int]int{}}
	for _, t := range tokens {
		if problem := size.add(t); problem != "" {
			d.refuse(t.Position.Line, "", "%s", problem)
			return false
		}
		if problem, found := unsupported[t.Type]; found {
			d.refuse(t.Position.Line, "", "%s", problem)
			ok = false
		}
	}
	return ok
}

// extent watches how deep and how wide a document becomes: the parser recurses
// for both, and its time for a mapping grows with the square of the keys.
type extent struct {
	depth  int // of brackets
	line   int
	dashes int         // on this line
	wide   map[int]int // lines that begin at a column, since one began further left
}

func (e *extent) add(t *token.Token) (problem string) {
	if t.Position.Line != e.line && t.Type != token.CommentType && e.depth == 0 {
		e.line, e.dashes = t.Position.Line, 0
		maps.DeleteFunc(e.wide, func(column, _ int) bool { return column > t.Position.Column })
		if t.Type != token.SequenceEntryType {
			e.wide[t.Position.Column]++
		}
	}
	switch t.Type {
	case token.MappingStartType, token.SequenceStartType:
		e.depth++
	case token.MappingEndType, token.SequenceEndType:
		e.depth--
	case token.SequenceEntryType:
		e.dashes++
	}
	switch {
	case e.depth > maxDepth || e.dashes > maxDepth:
		return "is nested too deeply"
	case e.wide[t.Position.Column] > maxWidth:
		return fmt.Sprintf("is more than key %d of one mapping", maxWidth)
	}
	return ""
}

func (d *decoder) refuseSyntax(err error) {
	line, message := 0, "cannot be read"
	if e, ok := errors.AsType[yaml.Error](err); ok { // its Error would print the file
		message = e.GetMessage()
		if t := e.GetToken(); t != nil {
			line = t.Position.Line
		}
	}
	d.refuse(line, "", "is not YAML: %s", strings.Join(strings.Fields(message), " "))
}

// only is the one document of the file.
func (d *decoder) only(file *ast.File) ast.Node {
	var root ast.Node
	for _, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		if root != nil {
			d.refuse(doc.Body.GetToken().Position.Line, "", "begins a second document: one file has one")
			return nil
		}
		root = doc.Body
	}
	if root == nil {
		d.refuse(0, "", "is empty; a minimal file is:\n\n%s", minimal)
	}
	return root
}
