#pragma once

#include <fmt/format.h>
#include <fmt/ostream.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <string>
#include <utility>
#include <vector>

/// A line plot as an SVG file: axes, ticks, grid, legend.
namespace plot {

struct Series {
  std::string name;
  std::vector<std::pair<double, double>> points;  ///< ascending x; points not finite are left out
};

struct Plot {
  std::string title;
  std::string x_label;
  std::string y_label;
  std::vector<Series> series;
};

/// A range and the distance of its ticks: 1, 2 or 5 times a power of ten.
struct Axis {
  double low = 0;
  double high = 1;
  double step = 1;

  /// Covers [from, to] with about `ticks` of them; the ends are ticks.
  Axis(double from, double to, int ticks) {
    if (!(to > from)) to = from + 1;
    const double rough = (to - from) / ticks;
    const double power = std::pow(10.0, std::floor(std::log10(rough)));
    const double digit = rough / power;
    step = (digit <= 1 ? 1 : digit <= 2 ? 2 : digit <= 5 ? 5 : 10) * power;
    low = std::floor(from / step + 1e-9) * step;
    high = std::ceil(to / step - 1e-9) * step;
  }
  int ticks() const { return static_cast<int>(std::lround((high - low) / step)) + 1; }
  double tick(int index) const { return low + step * index; }
  std::string label(int index) const {
    const int digits = std::max(0, -static_cast<int>(std::floor(std::log10(step) + 1e-9)));
    return fmt::format("{:.{}f}", tick(index), digits);
  }
};

inline std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : text) {
    if (c == '<') {
      result += "&lt;";
    } else if (c == '>') {
      result += "&gt;";
    } else if (c == '&') {
      result += "&amp;";
    } else {
      result += c;
    }
  }
  return result;
}

/// False where the file cannot be written.
inline bool write_svg(const std::string& path, const Plot& plot) {
  constexpr double width = 760;
  constexpr double height = 460;
  constexpr double left = 64;
  constexpr double right = width - 20;
  constexpr double top = 44;
  constexpr double bottom = height - 52;
  // Told apart by people who see colours differently as well (Okabe and Ito).
  static const std::vector<std::string> colours{"#0072b2", "#d55e00", "#009e73", "#cc79a7"};

  const double infinity = std::numeric_limits<double>::infinity();
  double x_low = infinity;
  double x_high = -infinity;
  double y_low = infinity;
  double y_high = -infinity;
  std::vector<Series> series = plot.series;
  for (Series& one : series) {
    std::erase_if(one.points, [](const auto& point) {
      return !std::isfinite(point.first) || !std::isfinite(point.second);
    });
    for (const auto& [x, y] : one.points) {
      x_low = std::min(x_low, x);
      x_high = std::max(x_high, x);
      y_low = std::min(y_low, y);
      y_high = std::max(y_high, y);
    }
  }
  if (x_low > x_high) x_low = x_high = y_low = y_high = 0;
  const Axis x_axis(x_low, x_high, 8);
  const Axis y_axis(y_low, y_high, 7);
  const auto x_at = [&](double x) {
    return left + (x - x_axis.low) / (x_axis.high - x_axis.low) * (right - left);
  };
  const auto y_at = [&](double y) {
    return bottom - (y - y_axis.low) / (y_axis.high - y_axis.low) * (bottom - top);
  };

  std::ofstream file(path);
  fmt::print(file,
             "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" "
             "viewBox=\"0 0 {0} {1}\" font-family=\"sans-serif\" font-size=\"12\">\n"
             "<rect width=\"{0}\" height=\"{1}\" fill=\"white\"/>\n",
             width, height);
  const auto text = [&](double x, double y, const char* anchor, const std::string& words,
                        const std::string& more = "") {
    fmt::print(file, "<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\" {}>{}</text>\n", x, y,
               anchor, more, escaped(words));
  };
  const auto line = [&](double x0, double y0, double x1, double y1, const std::string& style) {
    fmt::print(file, "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" {}/>\n", x0, y0,
               x1, y1, style);
  };
  text((left + right) / 2, 24, "middle", plot.title, "font-size=\"15\"");
  for (int i = 0; i < x_axis.ticks(); ++i) {
    const double x = x_at(x_axis.tick(i));
    line(x, top, x, bottom, "stroke=\"#e4e4e4\"");
    line(x, bottom, x, bottom + 5, "stroke=\"black\"");
    text(x, bottom + 18, "middle", x_axis.label(i));
  }
  for (int i = 0; i < y_axis.ticks(); ++i) {
    const double y = y_at(y_axis.tick(i));
    line(left, y, right, y, "stroke=\"#e4e4e4\"");
    line(left - 5, y, left, y, "stroke=\"black\"");
    text(left - 8, y + 4, "end", y_axis.label(i));
  }
  line(left, bottom, right, bottom, "stroke=\"black\"");
  line(left, top, left, bottom, "stroke=\"black\"");
  text((left + right) / 2, height - 12, "middle", plot.x_label);
  text(0, 0, "middle", plot.y_label,
       fmt::format("transform=\"translate(18 {:.1f}) rotate(-90)\"", (top + bottom) / 2));

  std::size_t longest = 0;
  for (std::size_t i = 0; i < series.size(); ++i) {
    fmt::print(file, "<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"1.6\" points=\"",
               colours[i % colours.size()]);
    for (const auto& [x, y] : series[i].points)
      fmt::print(file, "{:.1f},{:.1f} ", x_at(x), y_at(y));
    fmt::print(file, "\"/>\n");
    longest = std::max(longest, series[i].name.size());
  }
  // Losses fall: the upper right is free.
  const double legend_width = 46 + 6.6 * static_cast<double>(longest);
  const double legend_left = right - legend_width - 8;
  const double legend_height = 10 + 20 * static_cast<double>(series.size());
  fmt::print(file,
             "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" fill=\"white\" "
             "stroke=\"#999999\"/>\n",
             legend_left, top + 8, legend_width, legend_height);
  for (std::size_t i = 0; i < series.size(); ++i) {
    const double y = top + 23 + 20 * static_cast<double>(i);
    line(legend_left + 8, y, legend_left + 32, y,
         fmt::format("stroke=\"{}\" stroke-width=\"3\"", colours[i % colours.size()]));
    text(legend_left + 38, y + 4, "start", series[i].name);
  }
  fmt::print(file, "</svg>\n");
  file.close();
  return file.good();
}

}  // namespace plot
