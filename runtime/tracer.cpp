#include "runtime/tracer.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

namespace weft::runtime {

namespace {

/// A JSON string. Names may be any bytes, UTF-8 or not: what is not ASCII is escaped byte by byte,
/// so that the whole is valid.
std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto code = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (code < 0x20 || code >= 0x7f) {
      out += fmt::format("\\u{:04x}", code);
    } else {
      out += c;
    }
  }
  return out += '"';
}

double microseconds(std::int64_t nanoseconds) { return static_cast<double>(nanoseconds) * 1e-3; }

}  // namespace

std::string Tracer::json(std::string_view process) const {
  std::string text = fmt::format(
      "{{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n"
      "{{\"ph\":\"M\",\"pid\":1,\"tid\":0,\"name\":\"process_name\",\"args\":{{\"name\":{}}}}}",
      quoted(process));
  const auto out = std::back_inserter(text);
  std::int64_t dropped = 0;
  for (std::size_t i = 0; i < tracks_.size(); ++i) {
    const TraceTrack& track = tracks_[i];
    fmt::format_to(
        out,
        ",\n{{\"ph\":\"M\",\"pid\":1,\"tid\":{0},\"name\":\"thread_name\",\"args\":{{\"name\":{1}}}"
        "}}"
        ",\n{{\"ph\":\"M\",\"pid\":1,\"tid\":{0},\"name\":\"thread_sort_index\",\"args\":"
        "{{\"sort_index\":{0}}}}}",
        i, quoted(track.name()));
    std::vector<const TraceEvent*> events;
    events.reserve(track.events().size());
    for (const TraceEvent& event : track.events()) events.push_back(&event);
    // An event is added when it ends: enclosing ones come late.
    std::stable_sort(events.begin(), events.end(), [](const TraceEvent* a, const TraceEvent* b) {
      return a->begin != b->begin ? a->begin < b->begin : a->duration > b->duration;
    });
    for (const TraceEvent* event : events) {
      fmt::format_to(out,
                     ",\n{{\"ph\":\"X\",\"pid\":1,\"tid\":{},\"cat\":{},\"name\":{},\"ts\":{:.3f},"
                     "\"dur\":{:.3f},\"args\":{{",
                     i, quoted(event->category), quoted(event->name), microseconds(event->begin),
                     microseconds(event->duration));
      const char* comma = "";
      const auto argument = [&](const char* name, std::int64_t value) {
        if (value == TraceEvent::none) return;
        fmt::format_to(out, "{}\"{}\":{}", comma, name, value);
        comma = ",";
      };
      argument("iteration", event->iteration);
      argument("bytes", event->bytes);
      argument("operations", event->operations);
      text += "}}";
    }
    dropped += track.dropped();
  }
  fmt::format_to(out, "\n],\"otherData\":{{\"dropped\":{}}}}}\n", dropped);
  return text;
}

}  // namespace weft::runtime
