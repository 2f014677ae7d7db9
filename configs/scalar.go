package configs

import (
	"fmt"

	"github.com/goccy/go-yaml/ast"
)

// keyOf is a key as text; keys of other types keep what was written.
func keyOf(pair *ast.MappingValueNode) string {
	if s, ok := pair.Key.(*ast.StringNode); ok {
		return s.Value
	}
	return pair.Key.GetToken().Value
}

// scalarOf is a scalar's text, and its type in JSON; "" if it has none there.
func scalarOf(n ast.Node) (text, json string) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, "string"
	case *ast.LiteralNode:
		return n.Value.Value, "string"
	case *ast.IntegerNode:
		return fmt.Sprint(n.Value), "integer"
	case *ast.FloatNode:
		return n.Token.Value, "number"
	case *ast.BoolNode:
		return fmt.Sprint(n.Value), "boolean"
	}
	return "", ""
}

// kindOf says what stands in the file.
func kindOf(n ast.Node) string {
	text, json := scalarOf(n)
	switch {
	case json == "string":
		return "a text"
	case json != "":
		return text
	}
	switch n.(type) {
	case *ast.SequenceNode:
		return "a list"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	}
	return "something else"
}
