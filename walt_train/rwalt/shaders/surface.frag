#version 430
// The street's own surfaces, drawn once: asphalt with its paint, pavements, grass, kerbs, house fronts.
#include light
#include noise
uniform float surface_seed;
uniform vec2 lane_lines[8];      // y, dashed
uniform int lane_line_count;
uniform vec4 road;               // kerb near, kerb far, front near, front far
uniform vec3 crosswalk;          // centre x, half length, half width of the carriageway without strips
uniform vec2 stop_lines[2];      // x, sign of y
uniform vec3 street_lamps[4];    // x, y, height; height 0 = none
in vec3 world;
in vec3 normal;
flat in int surface;
layout(location = 0) out vec4 out_albedo;    // square root of the albedo; emission
layout(location = 1) out vec4 out_light;     // sunlit, open sky, lamps, unused
layout(location = 2) out vec4 out_world;

const int ASPHALT = 0, PAVEMENT = 1, GRASS = 2, KERB = 3, FRONT = 4;

float fbm(vec2 p) {
    float sum = 0.0, size = 0.5;
    for (int i = 0; i < 5; i++) {
        sum += size * value_noise(p);
        p = p * 2.07 + 17.3;
        size *= 0.5;
    }
    return sum;
}

float band(float x, float half_width, float soft) {
    return 1.0 - smoothstep(half_width - soft, half_width + soft, abs(x));
}

vec3 asphalt(vec2 p) {
    vec2 q = p + surface_seed;
    float grain = hash(floor(q * 42.0)) * 0.5 + value_noise(q * 16.0) * 0.5;
    float stains = fbm(q * vec2(0.22, 0.5));
    vec3 base = vec3(0.105, 0.107, 0.112) * (0.72 + 0.36 * grain) * (0.72 + 0.6 * stains);
    float patch_x = value_noise(vec2(floor(q.x / 7.0), floor(q.y / 3.1)) * 3.7);
    base *= patch_x > 0.72 ? 0.78 : 1.0;
    float crack = abs(fbm(q * 0.9 + 40.0) - 0.48);
    base *= 1.0 - 0.45 * (1.0 - smoothstep(0.0, 0.008, crack)) * step(0.5, value_noise(q * 0.23));
    for (int i = 0; i < lane_line_count; i++) {
        // Tyres polish two tracks a lane; oil darkens between them.
        float from_line = abs(p.y - lane_lines[i].x);
        base *= 1.0 + 0.05 * band(from_line - 0.85, 0.35, 0.3) + 0.05 * band(from_line - 2.35, 0.35, 0.3) - 0.10 * band(from_line - 1.6, 0.3, 0.3);
    }
    return base;
}

float road_paint(vec2 p) {
    float paint = 0.0;
    float at_crosswalk = band(p.x - crosswalk.x, crosswalk.y + 1.0, 0.02);
    for (int i = 0; i < lane_line_count; i++) {
        float dash = lane_lines[i].y > 0.5 ? step(fract(p.x / 6.0), 0.5) : 1.0;
        float double_line = lane_lines[i].y > 0.5 ? band(p.y - lane_lines[i].x, 0.07, 0.01)
            : max(band(p.y - lane_lines[i].x - 0.12, 0.055, 0.01), band(p.y - lane_lines[i].x + 0.12, 0.055, 0.01));
        paint = max(paint, dash * double_line * (1.0 - at_crosswalk));
    }
    float stripes = step(fract(p.y / 1.1), 0.5) * band(p.x - crosswalk.x, crosswalk.y, 0.02);
    paint = max(paint, stripes * step(road.x + 0.3, p.y) * step(p.y, road.y - 0.3));
    for (int i = 0; i < 2; i++)
        paint = max(paint, band(p.x - stop_lines[i].x, 0.2, 0.02) * step(0.2, p.y * stop_lines[i].y) * step(abs(p.y), crosswalk.z));
    float worn = smoothstep(0.28, 0.62, fbm(p * 2.3 + surface_seed * 3.0)) * 0.35 + 0.65 * step(0.16, value_noise(p * 9.0));
    return paint * worn;
}

vec3 pavement(vec2 p) {
    vec2 slab = vec2(p.x / 0.62 + 0.5 * mod(floor(p.y / 0.62), 2.0), p.y / 0.62);
    vec2 inside = abs(fract(slab) - 0.5);
    float joint = smoothstep(0.455, 0.485, max(inside.x, inside.y));
    float tone = 0.84 + 0.22 * hash(floor(slab) + surface_seed);
    float dirt = fbm(p * 0.8 + surface_seed) * 0.5 + 0.72;
    float grain = 0.9 + 0.2 * hash(floor(p * 50.0));
    return vec3(0.33, 0.315, 0.295) * tone * dirt * grain * (1.0 - 0.45 * joint);
}

vec3 grass(vec2 p) {
    float blades = value_noise(p * vec2(38.0, 13.0)) * 0.5 + value_noise(p * vec2(17.0, 29.0)) * 0.5;
    float tufts = fbm(p * 1.3 + surface_seed);
    return mix(vec3(0.045, 0.075, 0.018), vec3(0.12, 0.145, 0.045), tufts) * (0.45 + 0.95 * blades);
}

vec3 wall_colour(float house) {
    float pick = hash(vec2(house, surface_seed + 3.0));
    if (pick < 0.25) return vec3(0.30, 0.115, 0.075);
    if (pick < 0.45) return vec3(0.52, 0.46, 0.36);
    if (pick < 0.6) return vec3(0.42, 0.42, 0.42);
    if (pick < 0.78) return vec3(0.38, 0.26, 0.16);
    if (pick < 0.9) return vec3(0.22, 0.26, 0.29);
    return vec3(0.55, 0.53, 0.50);
}

// Colour and emission of a house front; `p` is along the street and up.
vec4 front(vec2 p) {
    float wide = 9.5;
    float house = floor(p.x / wide + hash(vec2(surface_seed, 1.0)));
    float x = (p.x / wide + hash(vec2(surface_seed, 1.0)) - house) * wide;
    float z = p.y - 0.12;
    vec3 wall = wall_colour(house);
    float style = hash(vec2(house, surface_seed + 9.0));
    if (wall.r > wall.b * 2.6) {
        vec2 brick = vec2(x / 0.24 + 0.5 * mod(floor(z / 0.085), 2.0), z / 0.085);
        vec2 edge = abs(fract(brick) - 0.5);
        wall *= 0.78 + 0.4 * hash(floor(brick));
        wall = mix(wall, vec3(0.36, 0.33, 0.30), smoothstep(0.40, 0.47, max(edge.x * 0.95, edge.y)) * 0.7);
    }
    wall *= 0.78 + 0.38 * fbm(vec2(x * 0.6 + house * 7.0, z * 0.25)) + 0.06 * hash(floor(p * 30.0));
    wall *= 1.0 - 0.35 * (1.0 - smoothstep(0.0, 0.55, z)) - 0.5 * band(x, 0.05, 0.02);
    float emission = 0.0;
    float floor_height = 3.1, ground_floor = 3.5;
    if (z < ground_floor) {
        float sign_band = step(2.85, z) * step(z, 3.35) * step(0.5, x) * step(x, wide - 0.5);
        vec2 pick = vec2(house * 17.0 + 3.0, surface_seed * 11.0);
        vec3 sign = 0.03 + 0.42 * pow(vec3(hash(pick + 0.7), hash(pick + 31.3), hash(pick + 67.9)), vec3(2.2));
        float letters = step(0.45, hash(floor(vec2(x * 4.5, house)))) * band(z - 3.1, 0.11, 0.01) * band(x - wide * 0.5, wide * 0.22, 0.01);
        wall = mix(wall, mix(sign, vec3(0.75), letters), sign_band);
        emission = max(emission, sign_band * letters * 0.5);
        float bay = wide / 4.0;
        float u = mod(x, bay), which = floor(x / bay);
        float is_door = which == floor(hash(vec2(house, 11.0)) * 4.0) ? 1.0 : 0.0;
        float opening = step(0.22, u) * step(u, bay - 0.22) * step(is_door > 0.5 ? 0.02 : 0.55, z) * step(z, 2.65);
        float frame = opening * (1.0 - step(0.3, u) * step(u, bay - 0.3) * step(z, 2.56) * step(is_door > 0.5 ? 0.1 : 0.64, z));
        // Behind the pane a dim room with goods on a low shelf; before it a slanted reflection of the sky.
        vec2 stall = vec2(floor(x / 0.42), house * 5.0 + floor(z / 0.5));
        vec3 goods = 0.03 + 0.2 * vec3(hash(stall), hash(stall + 9.1), hash(stall + 4.7));
        float inside = step(z, 0.75 + 0.7 * hash(stall.xx + house)) * step(0.12, fract(x / 0.42)) * step(is_door, 0.5);
        vec3 glass = mix(vec3(0.022, 0.024, 0.026), goods, inside * 0.8);
        glass += vec3(0.045, 0.053, 0.06) * smoothstep(0.3, 1.0, fract((x + z * 0.6) / 2.3 + house * 0.37)) * smoothstep(0.4, 2.6, z);
        wall = mix(wall, glass, opening);
        wall = mix(wall, style > 0.5 ? vec3(0.05) : vec3(0.4, 0.38, 0.35), frame);
        emission = max(emission, opening * (1.0 - frame) * (0.4 + 0.3 * inside) * step(0.45, hash(vec2(house, 21.0))));
    } else {
        float count = style > 0.55 ? 4.0 : 3.0;
        float bay = wide / count;
        float storey = floor((z - ground_floor) / floor_height);
        vec2 w = vec2(mod(x, bay) - bay * 0.5, mod(z - ground_floor, floor_height) - 1.5);
        float half_wide = style > 0.55 ? 0.52 : 0.72;
        vec2 from = abs(w) - vec2(half_wide, 0.82);
        float opening = step(from.x, 0.0) * step(from.y, 0.0);
        float frame = opening * (1.0 - step(from.x, -0.07) * step(from.y, -0.07) * step(0.035, abs(w.x)));
        float room = hash(vec2(house * 13.0 + floor(x / bay), storey));
        float curtain = step(half_wide * 0.55, abs(w.x)) * step(0.35, room);
        vec3 glass = mix(vec3(0.02, 0.025, 0.03), vec3(0.09, 0.11, 0.13), smoothstep(-0.8, 0.8, w.y + 0.3 * w.x));
        glass = mix(glass, vec3(0.36, 0.34, 0.30), curtain * 0.7);
        wall = mix(wall, glass, opening);
        wall = mix(wall, vec3(0.5, 0.49, 0.46), frame);
        float sill = step(abs(w.x), half_wide + 0.12) * band(w.y + 0.88, 0.055, 0.01);
        wall = mix(wall, vec3(0.42, 0.41, 0.39), sill);
        wall *= 1.0 - 0.5 * opening * smoothstep(0.6, 0.82, w.y);
        wall *= 1.0 - 0.3 * band(z - ground_floor, 0.06, 0.02);
        emission = opening * (1.0 - frame) * step(0.62, room) * (0.5 + 0.5 * curtain);
    }
    return vec4(wall, emission);
}

void main() {
    vec3 n = normalize(normal);
    vec3 albedo;
    float emission = 0.0, sky = 1.0;
    if (surface == ASPHALT) {
        albedo = mix(asphalt(world.xy), vec3(0.56, 0.55, 0.52), road_paint(world.xy) * 0.85);
        float gutter = min(world.y - road.x, road.y - world.y);
        albedo *= 1.0 - 0.3 * (1.0 - smoothstep(0.0, 0.45, gutter));
        sky *= 0.8 + 0.2 * smoothstep(0.0, 0.25, gutter);
    } else if (surface == PAVEMENT) {
        albedo = pavement(world.xy);
        sky *= 0.6 + 0.4 * smoothstep(0.0, 1.1, road.w - world.y);
    } else if (surface == GRASS) {
        albedo = grass(world.xy);
    } else if (surface == KERB) {
        albedo = vec3(0.36, 0.35, 0.335) * (0.85 + 0.25 * hash(vec2(floor(world.x), 2.0))) * (1.0 - 0.5 * band(fract(world.x) - 0.5, 0.015, 0.005));
    } else {
        vec4 wall = front(world.xz);
        albedo = wall.rgb;
        emission = wall.a;
        sky *= 0.55 + 0.25 * smoothstep(0.0, 3.0, world.z);
    }
    float sun = max(dot(n, sun_direction), 0.0);
    if (sun > 0.0) sun *= lit_by_sun(static_shadow, world, n, 0.0022);
    float lamps = 0.0;
    for (int i = 0; i < 4; i++) {
        if (street_lamps[i].z <= 0.0) continue;
        vec3 to = street_lamps[i] - world;
        lamps += max(dot(n, normalize(to)), 0.05) * 16.0 / (4.0 + dot(to, to));
    }
    out_albedo = vec4(sqrt(albedo), emission);
    out_light = vec4(sun, sky, min(lamps * 0.5, 1.0), 1.0);
    out_world = vec4(world, 1.0);
}
