package arch

import (
	"go/ast"
	"go/types"
	"slices"
	"testing"

	"golang.org/x/tools/go/packages"
)

// impurities are standard packages that a rule, a verifier or a contract must
// not use itself: with them two peers could disagree about one transaction. Only
// a contract may log: what it writes there reaches no ledger.
var impurities = []string{"crypto/rand", "math/rand", "math/rand/v2", "net", "net/http", "os", "os/exec"}

var loggers = []string{"log", "log/slog"}

// clocks are the functions of package time that read a clock or wait for one.
var clocks = []string{"After", "AfterFunc", "NewTicker", "NewTimer", "Now", "Since", "Sleep", "Tick", "Until"}

// TestPure checks that domain, proof and the contracts use no clock, no
// randomness, no input or output, no goroutine and no iteration over a map,
// whose order differs between processes.
func TestPure(t *testing.T) {
	trackSources(t)
	pkgs, err := packages.Load(&packages.Config{
		Mode: packages.NeedName | packages.NeedFiles | packages.NeedImports | packages.NeedDeps | packages.NeedSyntax | packages.NeedTypes | packages.NeedTypesInfo,
	}, mod+"domain", mod+"proof", mod+"chaincode")
	if err != nil {
		t.Fatal(err)
	}
	if len(pkgs) != 3 {
		t.Fatalf("loaded %d packages, want domain, proof and chaincode", len(pkgs))
	}
	for _, pkg := range pkgs {
		t.Run(pkg.Name, func(t *testing.T) {
			for _, e := range pkg.Errors {
				t.Fatal(e)
			}
			if len(pkg.Syntax) == 0 {
				t.Fatal("no files")
			}
			for path := range pkg.Imports {
				if slices.Contains(impurities, path) || pkg.Name != "chaincode" && slices.Contains(loggers, path) {
					t.Errorf("imports %s", path)
				}
			}
			for _, file := range pkg.Syntax {
				ast.Inspect(file, func(n ast.Node) bool {
					switch n := n.(type) {
					case *ast.GoStmt:
						t.Errorf("%s: starts a goroutine", pkg.Fset.Position(n.Pos()))
					case *ast.RangeStmt:
						if _, ok := pkg.TypesInfo.TypeOf(n.X).Underlying().(*types.Map); ok {
							t.Errorf("%s: ranges over a map: its order differs between processes", pkg.Fset.Position(n.Pos()))
						}
					case *ast.SelectorExpr:
						fn, ok := pkg.TypesInfo.Uses[n.Sel].(*types.Func)
						if ok && fn.Pkg() != nil && fn.Pkg().Path() == "time" && fn.Signature().Recv() == nil && slices.Contains(clocks, fn.Name()) {
							t.Errorf("%s: reads the clock with time.%s", pkg.Fset.Position(n.Pos()), fn.Name())
						}
					}
					return true
				})
			}
		})
	}
}
