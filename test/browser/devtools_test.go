package browser

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// tab is a page in a Chromium that a test drives as a person would: with keys, by
// the DevTools protocol over a pipe. It is used by one goroutine.
type tab struct {
	t       *testing.T
	to      *os.File
	from    *bufio.Reader
	session string
	calls   int
	noise   []string // console messages and exceptions
	asked   []string // requests: method, address, and body if there is one
}

// message is what the DevTools protocol sends, either way.
type message struct {
	ID      int             `json:"id,omitempty"`
	Session string          `json:"sessionId,omitempty"`
	Method  string          `json:"method,omitempty"`
	Params  any             `json:"params,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   *struct {
		Message string `json:"message"`
	} `json:"error,omitempty"`
}

// newTab starts a Chromium with one empty page, which ends with the test.
func newTab(t *testing.T) *tab {
	t.Helper()
	theirs, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	from, their, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	profile, err := os.MkdirTemp("", "browser")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	cmd := exec.CommandContext(ctx, chromium(t), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-default-apps", "--disable-extensions",
		"--disable-dev-shm-usage", "--remote-debugging-pipe", "--user-data-dir="+profile, "about:blank")
	cmd.ExtraFiles = []*os.File{theirs, their} // descriptors 3 and 4
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = theirs.Close(), their.Close() // the browser has its own
	tb := &tab{t: t, to: to, from: bufio.NewReader(from)}
	t.Cleanup(func() {
		_, _ = to.WriteString(`{"id":0,"method":"Browser.close"}` + "\x00") // or else it ends with its input
		_, _, _ = to.Close(), cmd.Wait(), from.Close()
		cancel()
		_ = os.RemoveAll(profile) // what its last breath left there is none of the test's business
	})
	target := tb.call("Target.createTarget", map[string]any{"url": "about:blank"})
	session := tb.call("Target.attachToTarget", map[string]any{"targetId": target["targetId"], "flatten": true})
	tb.session = session["sessionId"].(string)
	for _, domain := range []string{"Page", "Runtime", "Network", "Log"} {
		tb.call(domain+".enable", nil)
	}
	tb.size(390, 844, 1)
	return tb
}

// call has the browser do something and answers what came of it. Events that come
// meanwhile are noted.
func (tb *tab) call(method string, params any) map[string]any {
	tb.t.Helper()
	tb.calls++
	data, err := json.Marshal(message{ID: tb.calls, Session: tb.session, Method: method, Params: params})
	if err != nil {
		tb.t.Fatal(err)
	}
	if _, err := tb.to.Write(append(data, 0)); err != nil {
		tb.t.Fatalf("%s: %v", method, err)
	}
	for {
		m := tb.read()
		if m.ID != tb.calls {
			tb.note(m)
			continue
		}
		if m.Error != nil {
			tb.t.Fatalf("%s: %s", method, m.Error.Message)
		}
		var result map[string]any
		if err := json.Unmarshal(m.Result, &result); err != nil {
			tb.t.Fatal(err)
		}
		return result
	}
}

func (tb *tab) read() message {
	tb.t.Helper()
	data, err := tb.from.ReadBytes(0)
	if err != nil {
		tb.t.Fatalf("the browser went away: %v", err)
	}
	var m message
	if err := json.Unmarshal(data[:len(data)-1], &m); err != nil {
		tb.t.Fatal(err)
	}
	return m
}

func (tb *tab) note(m message) {
	params, _ := m.Params.(map[string]any)
	switch m.Method {
	case "Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded":
		if said := fmt.Sprint(params); !strings.Contains(said, "Failed to load resource") { // answers that are to fail
			tb.noise = append(tb.noise, said)
		}
	case "Network.requestWillBeSent":
		request := params["request"].(map[string]any)
		if !strings.HasPrefix(fmt.Sprint(request["url"]), "http") {
			return // it leaves the browser for nowhere
		}
		line := fmt.Sprint(request["method"], " ", request["url"])
		if body, ok := request["postData"]; ok {
			line += fmt.Sprint(" ", body)
		}
		tb.asked = append(tb.asked, line)
	}
}

// open goes to an address and waits until the page and its scripts are loaded.
func (tb *tab) open(address string) {
	tb.t.Helper()
	tb.call("Page.navigate", map[string]any{"url": "about:blank"}) // a new fragment alone loads nothing
	tb.until(`location.href === "about:blank"`)
	tb.call("Page.navigate", map[string]any{"url": address})
	tb.until(`location.href !== "about:blank" && document.readyState === "complete"`)
}

// again is the tab for a part of its test.
func (tb *tab) again(t *testing.T) { tb.t, tb.asked, tb.noise = t, nil, nil }

// eval answers the value of an expression in the page, awaited if it is a promise.
func (tb *tab) eval(expression string) any {
	tb.t.Helper()
	answer := tb.call("Runtime.evaluate", map[string]any{"expression": expression, "awaitPromise": true, "returnByValue": true})
	if failed, ok := answer["exceptionDetails"]; ok {
		tb.t.Fatalf("%s: %v", expression, failed)
	}
	return answer["result"].(map[string]any)["value"]
}

// until waits for a condition in the page.
func (tb *tab) until(condition string) {
	tb.t.Helper()
	for end := time.Now().Add(time.Minute); tb.eval(condition) != true; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			tb.t.Fatalf("never: %s\n%.3000s", condition, tb.eval("document.body.innerText"))
		}
	}
}

// text answers what an element shows.
func (tb *tab) text(id string) string {
	tb.t.Helper()
	return fmt.Sprint(tb.eval(fmt.Sprintf(`document.getElementById(%q)?.innerText`, id)))
}

// size is the size of the window in CSS pixels, at a zoom.
func (tb *tab) size(width, height int, zoom float64) {
	tb.t.Helper()
	tb.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": zoom, "mobile": false})
}

// keys are those that tests press, with their codes.
var keys = map[string]int{"Tab": 9, "Enter": 13, " ": 32}

func (tb *tab) press(key string) {
	tb.t.Helper()
	event := map[string]any{"type": "keyDown", "key": key, "windowsVirtualKeyCode": keys[key]}
	if text := map[string]string{"Enter": "\r", " ": " "}[key]; text != "" {
		event["text"] = text
	}
	tb.call("Input.dispatchKeyEvent", event)
	tb.call("Input.dispatchKeyEvent", map[string]any{"type": "keyUp", "key": key, "windowsVirtualKeyCode": keys[key]})
}

// write types text where the focus is.
func (tb *tab) write(text string) {
	tb.t.Helper()
	tb.call("Input.insertText", map[string]any{"text": text})
}

// shoot keeps a picture of the whole page for people, if they asked for it.
func (tb *tab) shoot(name string) {
	tb.t.Helper()
	folder := os.Getenv("ZHENGLIAN_SCREENSHOTS")
	if folder == "" {
		return
	}
	tb.save(filepath.Join(folder, name+".png"), tb.call("Page.captureScreenshot", map[string]any{"captureBeyondViewport": true}))
}

// print answers the page as a PDF, as the browser prints it.
func (tb *tab) print(name string) string {
	tb.t.Helper()
	folder := os.Getenv("ZHENGLIAN_SCREENSHOTS")
	if folder == "" {
		folder = tb.t.TempDir()
	}
	file := filepath.Join(folder, name+".pdf")
	tb.save(file, tb.call("Page.printToPDF", map[string]any{"paperWidth": 8.27, "paperHeight": 11.69}))
	return file
}

func (tb *tab) save(file string, answer map[string]any) {
	tb.t.Helper()
	data, err := base64.StdEncoding.DecodeString(answer["data"].(string))
	if err == nil {
		err = os.WriteFile(file, data, 0o600)
	}
	if err != nil {
		tb.t.Fatal(err)
	}
}

// quiet fails the test if the page complained, and forgets what it did.
func (tb *tab) quiet() {
	tb.t.Helper()
	for _, message := range tb.noise {
		tb.t.Errorf("console: %.500s", message)
	}
	tb.noise = nil
}

// never fails the test if a request holds any of these texts.
func (tb *tab) never(texts ...string) {
	tb.t.Helper()
	for _, request := range tb.asked {
		for _, text := range texts {
			if strings.Contains(strings.ToUpper(request), strings.ToUpper(text)) {
				tb.t.Errorf("the browser sent %q: %s", text, request)
			}
		}
	}
}
